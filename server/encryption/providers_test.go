package encryption_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/encryption"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// rule is one of an EncryptionConfiguration: resources, and providers in YAML's flow style.
type rule struct {
	resources string
	providers []string
}

func configuration(rules ...rule) string {
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "- resources: [%s]\n  providers:\n", r.resources)
		for _, p := range r.providers {
			fmt.Fprintf(&b, "  - %s\n", p)
		}
	}
	return b.String()
}

// provider is one with a random key of 32 bytes.
func provider(kind, name string) string {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(rand.Uint32())
	}
	return fmt.Sprintf("%s: {keys: [{name: %s, secret: %s}]}", kind, name, base64.StdEncoding.EncodeToString(key))
}

func kmsProvider(p *plugin) string {
	return fmt.Sprintf("kms: {apiVersion: v2, name: test, endpoint: 'unix://%s', timeout: 5s}", p.socket)
}

const identityProvider = "identity: {}"

type config struct {
	file string
	poll time.Duration // not 0: the file is followed
}

func writeConfig(t *testing.T, text string) config {
	t.Helper()
	c := config{file: filepath.Join(t.TempDir(), "encryption.yaml")}
	c.write(t, text)
	return c
}

func (c config) write(t *testing.T, text string) {
	t.Helper()
	// Whoever follows the file must not see half of it.
	if err := os.WriteFile(c.file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(c.file+".new", c.file); err != nil {
		t.Fatal(err)
	}
}

func (c config) open(t *testing.T) *encryption.Providers {
	t.Helper()
	p, err := encryption.OpenProviders(t.Context(), encryption.ProvidersConfig{
		File: c.file, Reload: c.poll > 0, Poll: c.poll, Server: t.Name(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(t.Context())
	}()
	t.Cleanup(func() {
		<-done
		p.Close()
	})
	return p
}

// serve starts a server; nil providers are none.
func serve(t *testing.T, db storage.Database, operator *seal.Keyring, p *encryption.Providers) *servertest.Server {
	t.Helper()
	return servertest.Start(t, servertest.Config{Database: db, Keys: operator, Plane: func(c *controlplane.Config) { c.Encryption = p }})
}

// stored are the bytes that the database holds for an object of the default namespace.
func stored(t *testing.T, db storage.Database, resource, name string) []byte {
	t.Helper()
	store := clusterStore(t, db, servertest.Default)
	obj, err := store.Get(t.Context(), storage.Key{Resource: resource, Namespace: "default", Name: name}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return obj.Data
}

func create(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"k": needle}}
	if _, err := client.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// readable tells that an object is read as it was written.
func readable(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	got, err := client.CoreV1().Secrets("default").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Error(err)
	} else if string(got.Data["k"]) != needle {
		t.Errorf("%s reads as %v", name, got.Data)
	}
}

func hasPrefix(t *testing.T, data []byte, prefix string) {
	t.Helper()
	if !bytes.HasPrefix(data, []byte(prefix)) {
		t.Errorf("stored as %.60q, want it to begin with %q", data, prefix)
	}
	if how := spelling(data, needle); how != "" && prefix != "{" {
		t.Errorf("stored as %s", how)
	}
}

// TestProviders writes with each provider, and reads with a server that starts on what was written.
func TestProviders(t *testing.T) {
	t.Parallel()
	kms := newPlugin(t)
	kms.start(t)
	for name, tc := range map[string]struct {
		rules              []rule
		secret, map_, role string // what stored Secrets, ConfigMaps and Roles begin with
	}{
		"none":           {nil, "k8s:enc:rowlock:v1:", "{", "{"},
		"secretbox":      {[]rule{{"secrets", []string{provider("secretbox", "one"), identityProvider}}}, "k8s:enc:secretbox:v1:one:", "{", "{"},
		"aesgcm":         {[]rule{{"secrets", []string{provider("aesgcm", "one")}}}, "k8s:enc:aesgcm:v1:one:", "{", "{"},
		"aescbc":         {[]rule{{"secrets, configmaps", []string{provider("aescbc", "one")}}}, "k8s:enc:aescbc:v1:one:", "k8s:enc:aescbc:v1:one:", "{"},
		"kms":            {[]rule{{"secrets", []string{kmsProvider(kms)}}}, "k8s:enc:kms:v2:test:", "{", "{"},
		"identity":       {[]rule{{"secrets", []string{identityProvider}}}, "{", "{", "{"},
		"other resource": {[]rule{{"configmaps", []string{provider("aesgcm", "one")}}}, "k8s:enc:rowlock:v1:", "k8s:enc:aesgcm:v1:one:", "{"},
		"core group":     {[]rule{{"'*.'", []string{provider("aesgcm", "one")}}}, "k8s:enc:aesgcm:v1:one:", "k8s:enc:aesgcm:v1:one:", "{"},
		"all":            {[]rule{{"configmaps", []string{identityProvider}}, {"'*.*'", []string{provider("aesgcm", "one"), identityProvider}}}, "k8s:enc:aesgcm:v1:one:", "{", "k8s:enc:aesgcm:v1:one:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *encryption.Providers
			if tc.rules != nil {
				p = writeConfig(t, configuration(tc.rules...)).open(t)
			}
			db := memory.New()
			s := serve(t, db, nil, p)
			client := s.Client(t, servertest.Default)
			create(t, client, "a")
			open := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": needle}}
			if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), open, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			hasPrefix(t, stored(t, db, "secrets", "a"), tc.secret)
			hasPrefix(t, stored(t, db, "configmaps", "a"), tc.map_)
			store := clusterStore(t, db, servertest.Default)
			role, err := store.Get(t.Context(), storage.Key{Resource: "clusterroles.rbac.authorization.k8s.io", Name: "cluster-admin"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			hasPrefix(t, role.Data, tc.role)
			again := serve(t, db, s.Keys, p).Client(t, servertest.Default)
			readable(t, again, "a")
			list, err := again.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
			if err != nil || len(list.Items) != 1 || string(list.Items[0].Data["k"]) != needle {
				t.Errorf("list: %v, %v", list, err)
			}
		})
	}
}

// TestCustomResources are encrypted as the configuration says, and read by a server that starts on them.
func TestCustomResources(t *testing.T) {
	t.Parallel()
	p := writeConfig(t, configuration(rule{"'*.*'", []string{provider("aesgcm", "one"), identityProvider}})).open(t)
	db := memory.New()
	s := serve(t, db, nil, p)
	widgets := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "widgets.example.com"},
		"spec": map[string]any{
			"group": "example.com", "scope": "Namespaced",
			"names": map[string]any{"plural": "widgets", "kind": "Widget"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{
				"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
			}}},
		},
	}}
	client, err := dynamic.NewForConfig(s.Config(servertest.Default, servertest.AdminToken))
	if err != nil {
		t.Fatal(err)
	}
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	if _, err := client.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	widget := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "a"}, "k": needle,
	}}
	established := func() bool {
		now, err := client.Resource(definitions).Get(t.Context(), "widgets.example.com", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
		return slices.ContainsFunc(conditions, func(c any) bool {
			return c.(map[string]any)["type"] == "Established" && c.(map[string]any)["status"] == "True"
		})
	}
	for !established() {
		time.Sleep(time.Millisecond)
	}
	if _, err := client.Resource(widgets).Namespace("default").Create(t.Context(), widget, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	hasPrefix(t, stored(t, db, "widgets.example.com", "a"), "k8s:enc:aesgcm:v1:one:")
	// The definition too: "*.*" leaves nothing out.
	store := clusterStore(t, db, servertest.Default)
	if obj, err := store.Get(t.Context(), storage.Key{Resource: definitions.GroupResource().String(), Name: "widgets.example.com"}, 0); err != nil {
		t.Error(err)
	} else {
		hasPrefix(t, obj.Data, "k8s:enc:aesgcm:v1:one:")
	}
	again, err := dynamic.NewForConfig(serve(t, db, s.Keys, p).Config(servertest.Default, servertest.AdminToken))
	if err != nil {
		t.Fatal(err)
	}
	list, err := again.Resource(widgets).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Object["k"] != needle {
		t.Errorf("list: %v, %v", list, err)
	}
}

// TestProvidersRefused: what is wrong with a file is said in upstream's words.
func TestProvidersRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"empty":         {"", "is empty"},
		"another kind":  {"apiVersion: v1\nkind: Secret", "no kind"},
		"no resources":  {configuration(), "at least one resources is required"},
		"short key":     {configuration(rule{"secrets", []string{"aesgcm: {keys: [{name: a, secret: c2hvcnQ=}]}"}}), "secret is not of the expected length"},
		"no base64":     {configuration(rule{"secrets", []string{"secretbox: {keys: [{name: a, secret: '*'}]}"}}), "secrets must be base64 encoded"},
		"two at once":   {configuration(rule{"secrets", []string{"{identity: {}, aesgcm: {keys: []}}"}}), "more than one provider specified in a single element"},
		"masked":        {configuration(rule{"'*.*'", []string{identityProvider}}, rule{"secrets", []string{provider("aesgcm", "a")}}), "masked by earlier rule"},
		"unknown field": {configuration(rule{"secrets", []string{"rot13: {}"}}), "unknown field"},
		"kms v1":        {configuration(rule{"secrets", []string{"kms: {apiVersion: v1, name: a, endpoint: 'unix:///tmp/s', cachesize: 10, timeout: 3s}"}}), "KMSv1 is deprecated"},
		"kms endpoint":  {configuration(rule{"secrets", []string{"kms: {apiVersion: v2, name: a, endpoint: 'tcp://h:1', timeout: 3s}"}}), "unsupported scheme"},
	} {
		_, err := encryption.OpenProviders(t.Context(), encryption.ProvidersConfig{File: writeConfig(t, tc.text).file, Server: t.Name()})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
	}
}

// TestMovedRows: providers that cannot authenticate the row are not fooled by bytes of another one.
func TestMovedRows(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"secretbox", "aescbc", "aesgcm"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db := memory.New()
			s := serve(t, db, nil, writeConfig(t, configuration(rule{"secrets", []string{provider(kind, "one")}})).open(t))
			client := s.Client(t, servertest.Default)
			create(t, client, "a")
			create(t, client, "b")
			store := clusterStore(t, db, servertest.Default)
			key := storage.Key{Resource: "secrets", Namespace: "default", Name: "b"}
			b, err := store.Get(t.Context(), key, 0)
			if err != nil {
				t.Fatal(err)
			}
			op := storage.Op{Key: key, Verb: storage.Update, Expect: b.Revision, Data: stored(t, db, "secrets", "a")}
			if _, err := store.Commit(t.Context(), []storage.Op{op}); err != nil {
				t.Fatal(err)
			}
			_, err = client.CoreV1().Secrets("default").Get(t.Context(), "b", metav1.GetOptions{})
			if !apierrors.IsInternalError(err) {
				t.Errorf("b, which holds the bytes of a, reads as %v", err)
			}
			readable(t, client, "a")
		})
	}
}

// TestReload changes the file beneath a running server.
func TestReload(t *testing.T) {
	t.Parallel()
	one, two := provider("aesgcm", "one"), provider("aesgcm", "two")
	file := writeConfig(t, configuration(rule{"secrets", []string{one}}))
	file.poll = time.Millisecond
	db := memory.New()
	s := serve(t, db, nil, file.open(t))
	client := s.Client(t, servertest.Default)
	create(t, client, "old")
	create(t, client, "kept")
	file.write(t, "nonsense") // and the one from before stays in use
	create(t, client, "meanwhile")
	hasPrefix(t, stored(t, db, "secrets", "meanwhile"), "k8s:enc:aesgcm:v1:one:")

	file.write(t, configuration(rule{"secrets, configmaps", []string{two, one}}))
	for i := 0; ; i++ {
		name := fmt.Sprintf("new-%d", i)
		create(t, client, name)
		if bytes.HasPrefix(stored(t, db, "secrets", name), []byte("k8s:enc:aesgcm:v1:two:")) {
			break
		}
	}
	readable(t, client, "old")
	// An update that changes nothing writes what an old key encrypted anew, as upstream's storage migration relies on.
	old, err := client.CoreV1().Secrets("default").Get(t.Context(), "old", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets("default").Update(t.Context(), old, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	hasPrefix(t, stored(t, db, "secrets", "old"), "k8s:enc:aesgcm:v1:two:")
	hasPrefix(t, stored(t, db, "secrets", "kept"), "k8s:enc:aesgcm:v1:one:")
	readable(t, client, "kept")
}

// TestWithoutKMS starts a server whose KMS plugin is away: it serves all that it can, says that it is not ready, and loses
// nothing.
func TestWithoutKMS(t *testing.T) {
	t.Parallel()
	kms := newPlugin(t)
	kms.start(t)
	file := writeConfig(t, configuration(rule{"secrets", []string{kmsProvider(kms)}}))
	db := memory.New()
	first := serve(t, db, nil, file.open(t))
	create(t, first.Client(t, servertest.Default), "a")
	before := stored(t, db, "secrets", "a")
	kms.stop(t)

	s := serve(t, db, first.Keys, file.open(t))
	client := s.Client(t, servertest.Default)
	secrets := client.CoreV1().Secrets("default")
	if _, err := secrets.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsInternalError(err) {
		t.Errorf("get: %v", err)
	}
	if _, err := secrets.List(t.Context(), metav1.ListOptions{}); !apierrors.IsInternalError(err) {
		t.Errorf("list: %v", err)
	}
	if err := secrets.Delete(t.Context(), "a", metav1.DeleteOptions{}); !apierrors.IsInternalError(err) {
		t.Errorf("delete: %v", err)
	}
	if _, err := secrets.Patch(t.Context(), "a", "application/merge-patch+json", []byte(`{"stringData":{"k":"lost"}}`), metav1.PatchOptions{}); !apierrors.IsInternalError(err) {
		t.Errorf("patch: %v", err)
	}
	if !bytes.Equal(stored(t, db, "secrets", "a"), before) {
		t.Error("what could not be read was overwritten")
	}
	if _, err := client.CoreV1().ConfigMaps("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list of other objects: %v", err)
	}
	admin := s.Config(servertest.Default, servertest.AdminToken)
	for path, want := range map[string]int{
		"/readyz": http.StatusInternalServerError, "/readyz/kms-providers": http.StatusInternalServerError,
		"/healthz/kms-providers": http.StatusInternalServerError, "/livez": http.StatusOK,
	} {
		if code := status(t, admin, path); code != want {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
	// A server that had read it goes on.
	readable(t, first.Client(t, servertest.Default), "a")

	kms.start(t)
	for status(t, admin, "/readyz/kms-providers") != http.StatusOK {
		time.Sleep(10 * time.Millisecond)
	}
	readable(t, client, "a")
}

func status(t *testing.T, cfg *rest.Config, path string) int {
	t.Helper()
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(cfg.Host + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
