// Package aggregation makes API servers that users bring part of a cluster's API: each APIService that names a Service
// sends the requests of its group and version there.
//
// Requests have passed authentication, audit, fairness and authorization here. The server behind learns who asks from
// headers, which it may believe because they come with the cluster's front-proxy certificate; so no header that could
// pass for one of them is let through from a client. Where servers are reached is judged by package outbound, redirects are
// not passed on, and a failed upgrade closes the connection.
//
// Each such APIService has a goroutine that asks whether its server lives, what it serves, and how that is described.
// A cluster without any has one goroutine, which watches for them, and costs a request nothing.
//
// The same goroutine keeps the APIServices of custom resources, as kube-apiserver's autoregistration does.
package aggregation
