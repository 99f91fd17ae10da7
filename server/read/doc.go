// Package read answers get, list and watch of a resource in its stored version by copying bytes from the cache: nothing
// is decoded and nothing is encoded, but for protobuf, which is encoded once an object.
//
// Promises:
//
//   - What goes over the wire (status, headers, body, watch frames) equals what the endpoint handlers of k8s.io/apiserver
//     answer for the same request over the same data. The tests compare the two byte for byte.
//   - A list as a table is put together from rows that were printed once for each state of an object, and its bytes; only
//     ages are new. That goes for resources whose printers look at the clock for nothing else (steady).
//   - A request that needs more than bytes is refused before anything is written: other tables, partial metadata, YAML, CBOR,
//     indented output, other versions, audit of response bodies, watches over WebSocket, and every request that upstream
//     answers with an error about its parameters. Get, List and Watch return false for those, and the caller hands them to
//     upstream's handlers, whose words are then the answer.
//   - A list or the initial events of a watch come from one immutable snapshot and are written in pieces, without a lock
//     and without a copy of the whole; a slow client holds only its own goroutine.
//   - Large lists for clients that take gzip are put together from runs of objects that were compressed once, so that the
//     second list of a resource costs hardly more than one that is not compressed. Memory for that is bounded.
//   - A page's continue token is upstream's: any server that speaks storage.EncodeContinue can go on from it.
package read
