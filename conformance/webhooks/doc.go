// Package webhooks holds the binary to what upstream's conformance tests ask of admission and conversion webhooks. Those
// tests run the webhook in a pod; here it is a process of its own behind a Service without a selector, whose EndpointSlice
// names an address of this machine. Everything is in its tests.
package webhooks
