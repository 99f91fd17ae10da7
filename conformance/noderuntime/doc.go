// Package noderuntime makes machines for node agents out of one Linux machine, and judges nothing itself: a Fabric is a network
// segment, and each Machine on it has namespaces of its own (network, mounts, processes, host name, cgroups) and in them a
// real container runtime. A Registry in the test's process holds images that are made here, under their official names.
//
// A machine's first process is the parent of everything in it: when that one ends, because the test does or because it was
// killed, the kernel ends the rest, and mounts and networks go with it. Only empty cgroups can be left behind; the next test
// removes them.
//
// It takes root, and programs of Debian (see Require). containerd, its shim, CRI-O, runc and the CNI plugins are built from their
// modules at fixed versions and kept in the user's cache directory; conmon, which CRI-O takes, and an old containerd to test with are
// taken out of Debian's packages, which are not installed.
//
// An image made here is not the official one, whose name it has so that Kubernetes' tests run as they are: a result that rests on it
// says so. What the images are made of:
//
//   - pause, agnhost and nonewprivs are compiled from Kubernetes' source, etcd, CoreDNS and sample-apiserver from their modules, and
//     busybox from upstream's source with the configuration of the official image;
//   - what else the official images have of Alpine Linux or Debian, and nginx, comes from packages of one release of Debian, by way of
//     the machine's own apt. Their scripts do not run.
//
// Versions differ from what a name says for nginx, CoreDNS and what is in the previous agnhost. The same files make the same digest;
// what was made stays in the user's cache directory, and newer packages are taken only after that was emptied.
package noderuntime
