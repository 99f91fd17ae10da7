//go:build !linux

package main

func trimBinary() error { return nil }

func residentFiles() uint64 { return 0 }

func dropBinary() error { return nil }

func binarySize() uint64 { return 0 }
