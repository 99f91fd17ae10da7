package storagetest

func benchmarks() []benchmark {
	return nil
}
