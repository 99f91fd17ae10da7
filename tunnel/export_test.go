package tunnel

import (
	"net"
	"time"
)

// AcceptFor is Accept with another bound of the time for which the agent may take no byte.
func AcceptFor(conn net.Conn, write time.Duration) (*Session, error) { return accept(conn, write) }
