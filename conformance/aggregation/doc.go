// Package aggregation holds the binary to what upstream's conformance test asks of aggregated API servers. That test runs
// a sample server in a pod; here it is a process of its own behind a Service without a selector, whose EndpointSlice names
// an address of this machine. Everything is in its tests.
package aggregation
