package storagetest

// promises lists the tests by the names that package storage gives its promises.
func promises() []promise {
	return []promise{
		{"Conditional", testConditional},
	}
}
