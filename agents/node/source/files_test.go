package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestBadFiles: what is in the directory beside files of pods, however large or odd, neither stops the agent nor the pods of other files.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	s, h := newSource(t)
	s.Directory, s.files, s.api = t.TempDir(), false, true
	const good = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: c, image: i}]}\n"
	elsewhere := filepath.Join(t.TempDir(), "pod.yaml")
	for path, text := range map[string]string{
		"garbage":    "\x00\xff\xfe{{{",
		"empty.yaml": "",
		"list.yaml":  "- a\n- b\n",
		"bomb.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
		"deep.json":     strings.Repeat("[", 1<<20),
		"deployment":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n",
		"nameless.yaml": "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c, image: i}]}\n",
		"path.yaml":     strings.Replace(good, "name: NAME", "name: path, uid: ../../etc", 1),
		"invalid.yaml":  strings.Replace(good, "NAME", "Not_A_Name", 1),
		".hidden.yaml":  strings.Replace(good, "NAME", "hidden", 1),
		"good.yaml":     strings.Replace(good, "NAME", "good", 1),
		elsewhere:       strings.Replace(good, "NAME", "linked", 1),
	} {
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.Directory, path)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	huge, err := os.Create(filepath.Join(s.Directory, "huge.yaml"))
	if err == nil {
		err = huge.Truncate(1 << 40) // it takes no room
	}
	if err == nil {
		err = huge.Close()
	}
	if err == nil {
		err = unix.Mkfifo(filepath.Join(s.Directory, "pipe"), 0o600)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(s.Directory, "directory"), 0o700)
	}
	for link, to := range map[string]string{"link.yaml": elsewhere, "dangling.yaml": "/nowhere", "loop.yaml": "loop.yaml", "zero.yaml": "/dev/zero"} {
		if err == nil {
			err = os.Symlink(to, filepath.Join(s.Directory, link))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.readFiles()
		var names []string
		for _, pod := range h.active {
			names = append(names, pod.Name)
		}
		slices.Sort(names)
		if want := []string{"good-n1", "linked-n1"}; !slices.Equal(names, want) {
			t.Fatalf("pods are %v, want %v", names, want)
		}
	}
}

// TestSameName: of files with pods of one name the first one's is handed on first, and runs, unless another one runs already.
func TestSameName(t *testing.T) {
	t.Parallel()
	for _, runs := range []types.UID{"", "u1", "u2", "u3"} {
		s, h := newSource(t, runs)
		s.Directory, s.files, s.api = t.TempDir(), false, true
		for _, n := range []string{"2", "3", "1"} {
			text := "apiVersion: v1\nkind: Pod\nmetadata: {name: same, uid: u" + n + "}\nspec: {containers: [{name: c, image: i" + n + "}]}\n"
			if err := os.WriteFile(filepath.Join(s.Directory, n+".yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var order []types.UID
		s.workers = &ordered{hands: h, order: &order}
		s.readFiles()
		want := runs
		if want == "" {
			want = "u1"
		}
		if len(order) != 3 || order[0] != want {
			t.Errorf("when %q runs, they are handed on as %v", runs, order)
		}
	}
}

// ordered are hands that write down UIDs.
type ordered struct {
	*hands
	order *[]types.UID
}

func (o *ordered) Set(pod *corev1.Pod) {
	*o.order = append(*o.order, pod.UID)
	o.hands.Set(pod)
}

// TestBadCheckpoint: a file that a full disk or somebody has spoilt is no reason not to start.
func TestBadCheckpoint(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "null", "{", "[]", `{"uid": null}`, `{"a": {"c": 5}}`, "\x00\x00\x00"} {
		path := filepath.Join(t.TempDir(), "allotted.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		read, _ := readShares(path)
		read.give(bound("a", "1", nil))
		if err := read.write(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if again, err := readShares(path); err != nil || !again.has("a") {
			t.Errorf("%q: what was allotted is lost: %v", text, err)
		}
	}
}
