package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// vaulted is a data directory as rowlock up leaves it.
type vaulted struct{ dir string }

func (v vaulted) key() string { return filepath.Join(v.dir, "encryption.key") }

// serve runs a server on the directory for as long as f takes.
func (v vaulted) serve(t *testing.T, keyFile string, f func(*servertest.Server)) error {
	t.Helper()
	keys, err := seal.LoadOrGenerate(keyFile)
	if err != nil {
		return err
	}
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(v.dir, "rowlock.db")})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	s, err := servertest.Open(t.Context(), t.TempDir(), servertest.Config{Database: db, Keys: keys})
	if err != nil {
		return err
	}
	f(s)
	return s.Stop()
}

// run runs a command on the directory and returns what it printed.
func (v vaulted) run(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(append([]string{"encryption", args[0], "--data-dir", v.dir}, args[1:]...))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func readSecret(t *testing.T) func(*servertest.Server) {
	return func(s *servertest.Server) {
		got, err := s.Client(t, servertest.Default).CoreV1().Secrets("default").Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil || string(got.Data["k"]) != "v" {
			t.Errorf("the secret reads as %v, %v", got, err)
		}
	}
}

// TestEncryptionCommands goes through the life of a cluster's keys.
func TestEncryptionCommands(t *testing.T) {
	t.Parallel()
	v := vaulted{t.TempDir()}
	if _, err := v.run(t.Context(), "status", "--encryption-key-file", writeKey(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("status of nothing: %v", err)
	}
	if err := v.serve(t, v.key(), func(s *servertest.Server) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a"}, StringData: map[string]string{"k": "v"}}
		if _, err := s.Client(t, servertest.Default).CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	newKey := writeKey(t)
	for _, step := range []struct {
		args []string
		want []string // in what is printed
		not  string
	}{
		{[]string{"status", "--history"}, []string{"cluster default\n", "\tencrypts\t", "1 objects", "1 states in the history"}, "decrypts"},
		{[]string{"rotate", "--settle=0s"}, []string{"cluster default: key "}, "!"},
		{[]string{"status"}, []string{"\tencrypts\t", "\tdecrypts\t", "\tretired "}, "!"},
		{[]string{"rewrite", "--drop-history"}, []string{"1 of 1 objects rewritten, 0 cannot be decrypted"}, "!"},
		{[]string{"rewrite"}, []string{"0 of 1 objects rewritten"}, "!"},
		{[]string{"status", "--history"}, []string{"1 objects"}, "in the history"},
		{[]string{"prune"}, nil, "is gone"}, // it was retired a moment ago
		{[]string{"rekey", "--new-encryption-key-file", newKey}, []string{"cluster default: sealed with key "}, "!"},
		{[]string{"rekey", "--new-encryption-key-file", newKey}, []string{"cluster default: sealed with key "}, "!"},
		{[]string{"status", "--encryption-key-file", newKey}, []string{"\tencrypts\t", "1 objects"}, "!"},
	} {
		out, err := v.run(t.Context(), step.args...)
		if err != nil || strings.Contains(out, step.not) {
			t.Errorf("%s: %v\n%s", step.args, err, out)
		}
		for _, want := range step.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", step.args, want, out)
			}
		}
	}
	if err := v.serve(t, newKey, readSecret(t)); err != nil {
		t.Error(err)
	}
	err := v.serve(t, v.key(), func(*servertest.Server) { t.Error("a server runs with the old key") })
	if !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), "but the supplied key is") {
		t.Errorf("start with the old key: %v", err)
	}
	if _, err := v.run(t.Context(), "status", "--cluster", "other", "--encryption-key-file", newKey); err == nil {
		t.Error("there is a status of a cluster that does not exist")
	}
}

func writeKey(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(seal.Generate()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
