// Package inform gives parts of the server's own process client-go's informers, fed from the cluster's cache.
//
// What stands behind an informer here is not a request: its list is a snapshot of the cache and its watch a position in the
// cache's history, and its objects are those that the cache knows, shared by all informers of the process
// (object.View.External). Everything in front of that is client-go's, so that what is built on informers cannot tell.
package inform
