// Package controllers judges a server by controller-runtime: a manager with a leader lease reconciles through restarts
// of the server.
package controllers
