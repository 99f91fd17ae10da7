// Package object is one resource's way from Go objects to stored bytes and back, and what reads need to know about a
// cached entry.
//
// Stored bytes are the JSON of the resource's stored version, exactly as upstream's serializer writes it, but without a
// resourceVersion and without the newline at the end; then whatever encryption the resource has. A reply is made by
// splicing the revision in (AppendJSON), so that a read copies bytes and neither decodes nor encodes.
//
// A View holds the facts about one state of one object. They are computed when first asked for and shared by all who
// look at that state. Decoded objects and protobuf are held weakly: what keeps them is a Hot, within a bound of bytes.
package object
