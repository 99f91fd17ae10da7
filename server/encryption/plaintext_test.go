package encryption_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage/postgres"
	"github.com/rowlock-io/rowlock/storage/postgres/pgtest"
	"github.com/rowlock-io/rowlock/storage/sqlite"
)

// needle is in everything that must not be found, and control in what must, or nothing was looked through. Their length is a
// multiple of three, so that base64 of what begins with them begins with theirs. The needle may be a label too.
const (
	needle  = "top-secret-needles"
	control = "this may be found!"
	// privateKey begins the keys of the cluster's authorities, which are sealed.
	privateKey = "-----BEGIN EC PRIVATE KEY-----"
)

// spellings are the forms in which a text may turn up in files and dumps.
func spellings(text string) map[string][]byte {
	b64 := base64.StdEncoding.EncodeToString([]byte(text))
	return map[string][]byte{
		"text": []byte(text), "base64": []byte(b64),
		"hex of text": []byte(hex.EncodeToString([]byte(text))), "hex of base64": []byte(hex.EncodeToString([]byte(b64))),
	}
}

func spelling(in []byte, text string) string {
	for name, s := range spellings(text) {
		if bytes.Contains(in, s) {
			return name
		}
	}
	return ""
}

// TestNoPlaintextInFiles writes Secrets in every way there is and looks for them in all that SQLite has on disk.
func TestNoPlaintextInFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "rowlock.db")})
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Config{Database: db})
	writeSecrets(t, s.Client(t, servertest.Default))
	t.Run("running", func(t *testing.T) { searchFiles(t, dir) })
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("closed", func(t *testing.T) { searchFiles(t, dir) })
}

// TestNoPlaintextInDump does the same on Postgres, and looks into a dump, the tables, their write-ahead log and the server's log.
func TestNoPlaintextInDump(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	if err := postgres.Migrate(t.Context(), postgres.Config{URL: cluster.URL("postgres")}); err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(t.Context(), postgres.Config{URL: cluster.URL("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Config{Database: db})
	writeSecrets(t, s.Client(t, servertest.Default))
	dump, err := cluster.Dump(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{needle, privateKey} {
		if how := spelling(dump, text); how != "" {
			t.Errorf("the dump holds %q as %s", text, how)
		}
	}
	if spelling(dump, control) == "" {
		t.Error("the dump does not even hold what is not secret")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	cluster.Shutdown()
	searchFiles(t, cluster.Files())
}

func searchFiles(t *testing.T, dir string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range []string{needle, privateKey} {
			if how := spelling(data, text); how != "" {
				t.Errorf("%s holds %q as %s", path, text, how)
			}
		}
		found = found || spelling(data, control) != ""
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("no file even holds what is not secret")
	}
}

func writeSecrets(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	secrets := client.CoreV1().Secrets("default")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	open := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "open"}, Data: map[string]string{"k": control}}
	must(client.CoreV1().ConfigMaps("default").Create(t.Context(), open, metav1.CreateOptions{}))

	b64 := base64.StdEncoding.EncodeToString([]byte(needle))
	lastApplied := fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q},"kind":"Secret","metadata":{"name":"applied"},"stringData":{"s":%q}}`, b64, needle)
	for name, secret := range map[string]*corev1.Secret{
		"created":  {Data: map[string][]byte{"k": []byte(needle)}},
		"strings":  {StringData: map[string]string{"k": needle}},
		"applied":  {ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: lastApplied}}, Data: map[string][]byte{"k": []byte(needle)}},
		"labelled": {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"l": needle}}, Data: map[string][]byte{"k": []byte(needle)}},
		"token": {
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
			Type:       corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{corev1.ServiceAccountTokenKey: []byte(needle)},
		},
		"bootstrap-token-abcdef": {
			Type: "bootstrap.kubernetes.io/token",
			Data: map[string][]byte{"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "description": []byte(needle)},
		},
		"sh.helm.release.v1.web.v1": {Type: "helm.sh/release.v1", Data: map[string][]byte{"release": []byte(strings.Repeat(needle, 900_000/len(needle)))}},
	} {
		secret.Name = name
		must(secrets.Create(t.Context(), secret, metav1.CreateOptions{}))
	}
	apply := applycorev1.Secret("server-side", "default").WithStringData(map[string]string{"k": needle})
	must(secrets.Apply(t.Context(), apply, metav1.ApplyOptions{FieldManager: "test"}))
	changeSecrets(t, secrets, must)
}

func changeSecrets(t *testing.T, secrets clientcorev1.SecretInterface, must func(any, error)) {
	t.Helper()
	for kind, patch := range map[types.PatchType]string{
		types.MergePatchType:          fmt.Sprintf(`{"stringData":{"merged":%q}}`, needle),
		types.StrategicMergePatchType: fmt.Sprintf(`{"metadata":{"annotations":{"note":%q}}}`, needle),
		types.JSONPatchType:           fmt.Sprintf(`[{"op":"add","path":"/stringData","value":{"jsonpatched":%q}}]`, needle),
	} {
		must(secrets.Patch(t.Context(), "created", kind, []byte(patch), metav1.PatchOptions{}))
	}
	got, err := secrets.Get(t.Context(), "strings", metav1.GetOptions{})
	must(got, err)
	got.Data["more"] = []byte(needle)
	must(secrets.Update(t.Context(), got, metav1.UpdateOptions{}))
	must(nil, secrets.Delete(t.Context(), "applied", metav1.DeleteOptions{}))
	must(nil, secrets.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "l"}))
	left, err := secrets.List(t.Context(), metav1.ListOptions{})
	must(left, err)
	if len(left.Items) != 6 {
		t.Errorf("%d secrets are left, want 6", len(left.Items))
	}
	for _, s := range left.Items {
		if s.Name == "created" && (string(s.Data["merged"]) != needle || string(s.Data["jsonpatched"]) != needle || s.Annotations["note"] != needle) {
			t.Errorf("the patched secret does not hold what was written: %v", s)
		}
	}
}
