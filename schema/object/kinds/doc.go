// Package kinds has tests only. They hold package object against upstream's serializers for every kind that Kubernetes
// serves; they live apart because they link all of them.
package kinds
