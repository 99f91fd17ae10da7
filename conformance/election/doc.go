// Package election judges that of several servers exactly one acts on a cluster: that another does soon when it is killed, stopped or
// stands still, that nothing is done twice, and that nobody writes whose turn is over.
package election
