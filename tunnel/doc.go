// Package tunnel is what a node's agent and the servers say to each other where the agent dials out: a connection that the agent
// made, over which the server opens streams to the node's own API.
//
// The agent asks for Path of its node and is upgraded, as for exec. From there on the connection is HTTP/2 with the roles reversed: the
// server sends requests and the agent answers them. Each stream is one request, whose body is what goes to the node and whose answer's
// body is what comes back: the bytes of a connection to the node's HTTPS server, TLS and all. Who the server is to the node, and whether
// the node is the one that was meant, is found out inside of it, as on any connection.
//
// Streams have windows of their own, and a connection has room for all of them together: a reader that is slow, or does not read at all,
// holds up nobody else and costs no more than its window. Both sides send pings when they hear nothing, and give a connection up
// whose other side does not answer.
package tunnel

import "time"

// Prefix is above all paths of tunnels, and Protocol is what their connections are upgraded to.
const (
	Prefix   = "/tunnel/"
	Protocol = "rowlock-tunnel-1"
)

// Path is where the agent of a node asks for its tunnel.
func Path(node string) string { return Prefix + "nodes/" + node }

// StreamPath is where one server asks another for a stream to a node whose tunnel it has.
func StreamPath(node string) string { return Prefix + "streams/" + node }

// Bounds of one connection.
const (
	maxStreams   = 200
	streamWindow = 512 << 10 // bytes that one side sends before the other has read some of them
	copyBuffer   = 16 << 10  // as a record of TLS

	pingServer  = 20 * time.Second // the server's, when it hears nothing: sooner than routers forget a connection
	pingAgent   = 45 * time.Second // the agent's, which hears the server's
	pingTimeout = 15 * time.Second

	// lingerTime is how long a stream may take to end after one side has closed it.
	lingerTime = 10 * time.Second
	leaveTime  = 2 * time.Second
)

// Requests that the server sends.
const (
	streamPath = "/stream"
	leavePath  = "/leave"
)
