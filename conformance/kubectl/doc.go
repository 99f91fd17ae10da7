// Package kubectl runs scripts of real use with the stock kubectl against a server.
//
// The scripts are in testdata/script, in the language of testscript. Each has a server in common with the others and a
// namespace of its own, called like the script and kept in $NS, with the service account "default"; its kubeconfig
// points there. The files of testdata/app, a realistic application, are in app/. "$NS" in a YAML file is replaced by the
// namespace. What the scripts expect is what kube-apiserver does, whether or not controllers run beside it.
//
// Beyond testscript's own commands there are
//
//	kubectl ARGS…             runs kubectl
//	exits N COMMAND ARGS…     runs a program that must end with the status N
//	fetch URL [TOKEN]         reads a URL and prints status and body; the certificate is not checked
//	eventually PATTERN FILE   waits until the file, "stdout" excluded, matches the regular expression
//	capture VAR PATTERN FILE  sets VAR to what the pattern's first group matches in the file, "stdout" or "stderr"
package kubectl
