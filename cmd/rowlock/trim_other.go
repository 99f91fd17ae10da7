//go:build !linux

package main

func trimBinary() error { return nil }
