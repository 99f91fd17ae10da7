// Package robustness judges what becomes of a cluster when servers, connections and databases fail, when somebody
// starts a server with the wrong things, and when clients send nonsense: nothing acknowledged is lost, and what cannot
// be done is refused with words that say what to do.
package robustness
