// Package agents judges what acts on a cluster, its control loops and scheduler, by what a user sees in the API: for each
// loop what it does, and what it says when it cannot.
package agents
