// Package custom serves custom resources: what CustomResourceDefinitions define.
//
// What requests mean is upstream's: its handler of custom resources serves everything that is not a plain read of the
// stored version. Those are answered from kept bytes, as for built-in resources. A definition is known by its entry in the
// cluster's cache and looked at with every request, so that a request never meets an older one than the replica knows;
// one that is not known is asked for in the database before anybody is told that it does not exist.
//
// Memory: of a definition that is not used only names and versions are kept. Schemas in all their forms are made from the
// definition's bytes at the first write, or the first read of an object that was not written by this process, and dropped
// when they were not needed for some minutes.
package custom
