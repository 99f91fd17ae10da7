package kubeconfig_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/rowlock-io/rowlock/server/kubeconfig"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/pki/pkitest"
)

// newEntry returns an entry as a server writes it, each time with an authority of its own.
func newEntry(t *testing.T, server string) (kubeconfig.Entry, *pki.Identity) {
	t.Helper()
	id := pkitest.New(t)
	return entryOf(t, id, server), id
}

func entryOf(t *testing.T, id *pki.Identity, server string) kubeconfig.Entry {
	t.Helper()
	pair, err := id.ClusterCA.IssueClient(pki.Admin())
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig.Entry{Name: "rowlock", Server: server, CA: id.ClusterCA.Bundle(), Cert: pair.CertPEM, Key: pair.KeyPEM}
}

func write(t *testing.T, file kubeconfig.File, e kubeconfig.Entry, makeCurrent bool) kubeconfig.Result {
	t.Helper()
	res, err := kubeconfig.Write(t.Context(), file, e, makeCurrent)
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	return res
}

func read(t *testing.T, path string) *api.Config {
	t.Helper()
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// usable checks that client-go makes a client of a context.
func usable(t *testing.T, path, name string, e kubeconfig.Entry) {
	t.Helper()
	config, err := clientcmd.NewNonInteractiveClientConfig(*read(t, path), name, nil, nil).ClientConfig()
	if err != nil {
		t.Fatalf("context %s: %v", name, err)
	}
	if config.Host != e.Server || string(config.CAData) != string(e.CA) || string(config.CertData) != string(e.Cert) {
		t.Errorf("context %s leads to %s with another authority or certificate", name, config.Host)
	}
}

const foreign = `apiVersion: v1
kind: Config
current-context: work
clusters:
- name: work
  cluster:
    server: https://work.example.com
    certificate-authority: certs/ca.crt
    extensions:
    - name: cluster_info
      extension:
        provider: minikube.sigs.k8s.io
        version: v1
- name: rowlock
  cluster:
    server: https://elsewhere.example.com
    insecure-skip-tls-verify: true
contexts:
- name: work
  context:
    cluster: work
    user: work
    namespace: mine
users:
- name: work
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: login
      args: [--now]
      env:
      - name: A
        value: b
      interactiveMode: Never
      provideClusterInfo: false
`

func TestNewFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), ".kube", "config")
	e, _ := newEntry(t, "https://127.0.0.1:6443")
	res := write(t, kubeconfig.File{Path: path}, e, false)
	if diff := cmp.Diff(kubeconfig.Result{Path: path, Context: "rowlock", Current: true}, res); diff != "" {
		t.Error(diff)
	}
	usable(t, path, "", e)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Clients ask for the cluster's own certificate as long as the entry says so; a name that users chose stays.
func TestOwnCertificateIsAskedForByName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	e, _ := newEntry(t, "https://127.0.0.1:6443")
	is := func(want string) {
		t.Helper()
		if got := read(t, path).Clusters["rowlock"].TLSServerName; got != want {
			t.Errorf("tls-server-name %q, want %q", got, want)
		}
	}
	e.Own = true
	write(t, kubeconfig.File{Path: path}, e, false)
	is(kubeconfig.OwnName)
	e.Own = false
	write(t, kubeconfig.File{Path: path}, e, false)
	is("")
	config := read(t, path)
	config.Clusters["rowlock"].TLSServerName = "chosen"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	write(t, kubeconfig.File{Path: path}, e, false)
	is("chosen")
}

func TestWhatIsThereStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	put(t, path, foreign)
	before := read(t, path)
	e, _ := newEntry(t, "https://127.0.0.1:6443")
	res := write(t, kubeconfig.File{Path: path}, e, false)
	if diff := cmp.Diff(kubeconfig.Result{Path: path, Context: "rowlock-2"}, res); diff != "" {
		t.Error(diff)
	}
	usable(t, path, "rowlock-2", e)
	after := read(t, path)
	delete(after.Clusters, "rowlock-2")
	delete(after.Contexts, "rowlock-2")
	delete(after.AuthInfos, "rowlock-2")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("changed:\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v: it holds a key now", info.Mode(), err)
	}
	if res := write(t, kubeconfig.File{Path: path}, e, true); !res.Current || res.Context != "rowlock-2" {
		t.Errorf("asked to make it current: %+v", res)
	}
}

func TestOwnEntryIsRenewed(t *testing.T) {
	t.Parallel()
	first, id := newEntry(t, "https://127.0.0.1:6443")
	otherCA, _ := newEntry(t, "https://127.0.0.1:6443")
	stranger, _ := newEntry(t, "https://127.0.0.1:7777")
	for name, tc := range map[string]struct {
		next kubeconfig.Entry
		edit func(*api.Config)
		want string // context
	}{
		"new certificate":                  {entryOf(t, id, first.Server), nil, "rowlock"},
		"new port":                         {entryOf(t, id, "https://127.0.0.1:9999"), nil, "rowlock"},
		"new authority, same address":      {otherCA, nil, "rowlock"},
		"another cluster":                  {stranger, nil, "rowlock-2"},
		"its user logs in differently now": {first, func(c *api.Config) { c.AuthInfos["rowlock"].Token = "t" }, "rowlock-2"},
		"its context is used for others":   {first, func(c *api.Config) { c.Contexts["rowlock"].Cluster = "x" }, "rowlock-2"},
		"the user alone, ours":             {entryOf(t, id, first.Server), func(c *api.Config) { delete(c.Clusters, "rowlock"); delete(c.Contexts, "rowlock") }, "rowlock"},
		"the user alone, not ours":         {otherCA, func(c *api.Config) { delete(c.Clusters, "rowlock"); delete(c.Contexts, "rowlock") }, "rowlock-2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config")
			write(t, kubeconfig.File{Path: path}, first, false)
			config := read(t, path)
			config.Contexts["rowlock"].Namespace = "mine"
			if tc.edit != nil {
				tc.edit(config)
			}
			if err := clientcmd.WriteToFile(*config, path); err != nil {
				t.Fatal(err)
			}
			res := write(t, kubeconfig.File{Path: path}, tc.next, false)
			if res.Context != tc.want {
				t.Errorf("context %s, want %s", res.Context, tc.want)
			}
			usable(t, path, res.Context, tc.next)
			if c := read(t, path).Contexts["rowlock"]; tc.edit == nil && c.Namespace != "mine" {
				t.Error("the namespace that the user chose is gone")
			}
		})
	}
}

func TestOtherFilesTakeNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	put(t, other, foreign)
	e, _ := newEntry(t, "https://127.0.0.1:6443")
	file := kubeconfig.File{Path: filepath.Join(dir, "config"), Others: []string{other, filepath.Join(dir, "none")}}
	res := write(t, file, e, false)
	if res.Context != "rowlock-2" || res.Current {
		t.Errorf("got %+v, want another name, and the other file's current context kept", res)
	}
}

func TestFilesNotUnderstoodAreNotTouched(t *testing.T) {
	t.Parallel()
	e, _ := newEntry(t, "https://127.0.0.1:6443")
	for name, text := range map[string]string{
		"not YAML":          "{",
		"other YAML":        "hello: world\n",
		"another kind":      "apiVersion: v1\nkind: Pod\n",
		"unknown field":     strings.Replace(foreign, "    server: https://work", "    teleport: yes please\n    server: https://work", 1),
		"two of one name":   strings.Replace(foreign, "- name: rowlock\n  cluster:", "- name: work\n  cluster:", 1),
		"a list at the top": "- a\n",
		"binary":            "\x00\x01\x02",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config")
			put(t, path, text)
			_, err := kubeconfig.Write(t.Context(), kubeconfig.File{Path: path}, e, false)
			if !errors.Is(err, kubeconfig.ErrNotUnderstood) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want ErrNotUnderstood with the path", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != text {
				t.Errorf("the file is now %q, %v", now, err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	for name, existing := range map[string]bool{"to a file": true, "to nothing yet": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			target, link := filepath.Join(dir, "real", "config"), filepath.Join(dir, "link")
			if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
				t.Fatal(err)
			}
			if existing {
				put(t, target, foreign)
			}
			if err := os.Symlink(filepath.Join("real", "config"), link); err != nil {
				t.Fatal(err)
			}
			e, _ := newEntry(t, "https://127.0.0.1:6443")
			res := write(t, kubeconfig.File{Path: link}, e, false)
			if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("the link is gone: %v, %v", info, err)
			}
			usable(t, target, res.Context, e)
		})
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if _, err := kubeconfig.Write(t.Context(), kubeconfig.File{Path: loop}, kubeconfig.Entry{}, false); err == nil {
		t.Error("a link to itself was written to")
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	put(t, path+".lock", "")
	e, _ := newEntry(t, "https://127.0.0.1:6443")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := kubeconfig.Write(ctx, kubeconfig.File{Path: path}, e, false)
	if !errors.Is(err, kubeconfig.ErrLocked) || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("got %v, want ErrLocked with the path", err)
	}
	if _, err := os.Stat(path + ".lock"); err != nil {
		t.Errorf("the other program's lock is gone: %v", err)
	}
}

func TestServersThatStartAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	contexts := make([]string, 5)
	var wg sync.WaitGroup
	for i := range contexts {
		e, _ := newEntry(t, "https://127.0.0.1:100"+string(rune('0'+i)))
		wg.Go(func() {
			res, err := kubeconfig.Write(t.Context(), kubeconfig.File{Path: path}, e, false)
			if err != nil {
				t.Error(err)
			}
			contexts[i] = res.Context
		})
	}
	wg.Wait()
	config := read(t, path)
	for i, name := range contexts {
		if c := config.Clusters[name]; c == nil || !strings.HasSuffix(c.Server, string(rune('0'+i))) {
			t.Errorf("server %d: context %q leads to %+v", i, name, c)
		}
	}
}

func TestDefault(t *testing.T) {
	list := string(filepath.ListSeparator)
	t.Setenv("HOME", "/home/ann")
	for env, want := range map[string]kubeconfig.File{
		"":                                      {Path: "/home/ann/.kube/config"},
		"/a":                                    {Path: "/a", Others: []string{}},
		list + "/a" + list + "/b" + list + "/a": {Path: "/a", Others: []string{"/b"}},
	} {
		t.Setenv("KUBECONFIG", env)
		got, err := kubeconfig.Default()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("KUBECONFIG=%q: %v\n%s", env, err, diff)
		}
	}
}
