package storagetest

// promises lists the tests by the names that package storage gives its promises.
func promises() []promise {
	return []promise{
		{"Conditional", testConditional},
		{"Independent", testIndependent},
		{"ReadOwnWrites", testReadOwnWrites},
		{"CommitOrder", testCommitOrder},
		{"Ordered", testOrdered},
		{"Unique", testUnique},
		{"Reliable", testReliable},
		{"Resumable", testResumable},
		{"Bookmarkable", testBookmarkable},
		{"OneSnapshot", testOneSnapshot},
		{"Compacted", testCompacted},
		{"Future", testFuture},
		{"ByteOrder", testByteOrder},
		{"Relaxed", testRelaxed},
		{"Isolated", testIsolated},
		{"Cancel", testCancel},
		{"Closed", testClosed},

		{"Malformed", testMalformed},
		{"Selectors", testSelectors},
		{"LargeBatches", testLargeBatches},
		{"Past", testPast},
		{"Horizon", testHorizon},
		{"Wake", testWake},
		{"Catalogue", testCatalogue},
		{"Restart", testRestart},
	}
}
