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
//
// A stream may lead to a pod of the node in place of the node's API: to an address that the agent knows to be one of its pods'. It
// connects nowhere else, whatever the server asks for.
package tunnel

import (
	"net/netip"
	"net/url"
	"time"
)

// Prefix is above all paths of tunnels, and Protocol is what their connections are upgraded to.
const (
	Prefix   = "/tunnel/"
	Protocol = "rowlock-tunnel-1"
)

// Path is where the agent of a node asks for its tunnel.
func Path(node string) string { return Prefix + "nodes/" + node }

// StreamPath is where one server asks another for a stream to a node whose tunnel it has.
func StreamPath(node string) string { return Prefix + "streams/" + node }

// PodQuery is what is asked for, in the query, where a stream is to lead to a pod of the node: its address and port.
const PodQuery = "pod"

// Pod is the query for one.
func Pod(at netip.AddrPort) url.Values { return url.Values{PodQuery: {at.String()}} }

// Bounds of one connection.
const (
	maxStreams = 200
	// maxPodStreams leaves some for the node's API: who keeps many connections to pods must not keep others from their logs.
	maxPodStreams = 150
	// fullTime is how long one more waits for another to end.
	fullTime = 2 * time.Second
	// agentStreams is what the agent takes: some are about to end that the server does not count any more.
	agentStreams = maxStreams + 50
	streamWindow = 512 << 10 // bytes that one side sends before the other has read some of them
	copyBuffer   = 16 << 10  // as a record of TLS
	maxHeader    = 16 << 10  // of an answer

	pingServer  = 20 * time.Second // the server's, when it hears nothing: sooner than routers forget a connection
	pingAgent   = 45 * time.Second // the agent's, which hears the server's
	pingTimeout = 15 * time.Second
	// writeTimeout is how long the agent may take no byte at all, though it may send some.
	writeTimeout = 30 * time.Second

	// lingerTime is how long a stream may take to end after one side has closed it.
	lingerTime = 10 * time.Second
	leaveTime  = 2 * time.Second
)

// Requests that the server sends.
const (
	streamPath = "/stream"
	podPath    = "/pod"
	leavePath  = "/leave"
)
