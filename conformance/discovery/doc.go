// Package discovery tests from outside that others can verify a cluster's service-account tokens by nothing but their
// issuer: what upstream's conformance test "ServiceAccountIssuerDiscovery should support OIDC discovery of service account
// issuer" checks with a pod. Here the verifying program is a process beside the server.
package discovery
