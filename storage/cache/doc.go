// Package cache keeps one cluster's current objects in memory, fed by one reader of the log, and fans the log out to
// watchers.
//
// It promises what package storage promises, seen through memory: reads are of one exact revision, watchers get every
// change of their selection in revision order, each once, and a position the cache has shown never goes back within
// an epoch. Readers take no lock: each resource has a published, immutable tree. Publishing never waits for a reader
// or a watcher.
//
// How a change travels: Apply (this replica's own commits) or the log reader (everybody else's) builds the new trees,
// publishes them, appends to the shared history, moves the position, and wakes exactly the watchers whose selection
// was touched. A watcher holds a revision, nothing else, so one that never reads costs nothing; when it returns after
// the history in memory has moved on, it reads the log itself until it has caught up.
//
// Selections are found by an index of names (index.go), made when somebody first selects. It may say too much and never too
// little, follows the history, and is asked together with what the history has since the snapshot.
//
// When the epoch changes, or the log no longer reaches back to where the cache stands, the cache loads afresh into a
// new world and swaps; watchers of the old world end with storage.ErrCompacted.
package cache
