// Package clients judges a server by what client-go asks of it: informers that live through restarts, watches that go on
// where they ended, lists in pages, and the typed, dynamic and metadata clients.
package clients
