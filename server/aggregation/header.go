package aggregation

import (
	"net/http"
	"strings"

	"k8s.io/streaming/pkg/httpstream"
)

// identityPrefix begins the names of all headers by which a front proxy says who a user is.
const identityPrefix = "x-remote-"

// scrub takes out of a client's headers what the server behind could take for the word of its front proxy. Servers that
// turn - into _, as CGI does, cannot tell X_Remote_User from X-Remote-User, so that neither passes. Headers that Connection
// lists are dropped by the next proxy on the way: only an upgrade is let through, or a client could have the names of
// users dropped that are about to be added.
func scrub(header http.Header) {
	for name := range header {
		plain := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "_", "-")
		if strings.HasPrefix(plain, identityPrefix) || strings.HasPrefix(plain, "impersonate-") {
			delete(header, name)
		}
	}
	upgrade := httpstream.IsUpgradeRequest(&http.Request{Header: header})
	header.Del("Connection")
	header.Del("Proxy-Connection")
	header.Del("Keep-Alive")
	header.Del("Proxy-Authorization")
	if upgrade {
		header.Set("Connection", "Upgrade")
	} else {
		header.Del("Upgrade")
	}
}

// leaves tells whether a path has segments that lead out of where it seems to be. What was authorized is the path as it
// stands; a server that resolves such segments would serve another one.
func leaves(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return strings.ContainsAny(path, "\\\x00")
}
