package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

func TestLogs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.runtime.Script("c", fakecri.Life{Output: []string{"one", "two", "three"}, Errors: []string{"wrong"}})
	id := n.run(newPod("web"))
	text, err := os.ReadFile(n.logs + "/default_web_uid-of-web/c/0.log")
	if err != nil {
		t.Fatal(err)
	}
	second := strings.SplitN(string(text), "\n", 3)[1]
	stamp, _, _ := strings.Cut(second, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"":                             "one\ntwo\nthree\nwrong",
		"?tailLines=2":                 "three\nwrong",
		"?tailLines=0":                 "",
		"?tail=1":                      "wrong",
		"?tail=all":                    "one\ntwo\nthree\nwrong",
		"?limitBytes=6":                "one\ntw",
		"?stream=Stdout":               "one\ntwo\nthree",
		"?stream=Stderr":               "wrong",
		"?timestamps=true&tailLines=1": "WRONG",
		"?sinceSeconds=3600":           "one\ntwo\nthree\nwrong",
		"?sinceTime=" + at.Add(time.Hour).UTC().Format(time.RFC3339): "",
	} {
		code, body := n.get("/containerLogs/default/web/c" + query)
		if query == "?timestamps=true&tailLines=1" {
			if _, err := time.Parse(time.RFC3339Nano, strings.Fields(body + " x")[0]); err != nil || !strings.HasSuffix(body, " wrong") {
				t.Errorf("%s: %d %q", query, code, body)
			}
			continue
		}
		if code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", query, code, body, want)
		}
	}
	for query, want := range map[string]struct {
		code int
		body string
	}{
		"?tailLines=many":            {http.StatusBadRequest, `{"message": "Unable to decode query."}`},
		"?tailLines=-1":              {http.StatusUnprocessableEntity, `{"message": "Invalid request."}`},
		"?limitBytes=0":              {http.StatusUnprocessableEntity, `{"message": "Invalid request."}`},
		"?sinceSeconds=0":            {http.StatusUnprocessableEntity, `{"message": "Invalid request."}`},
		"?stream=Stdin":              {http.StatusUnprocessableEntity, `{"message": "Invalid request."}`},
		"?stream=Stdout&tailLines=1": {http.StatusUnprocessableEntity, `{"message": "Invalid request."}`},
		"?previous=true":             {http.StatusBadRequest, `previous terminated container "c" in pod "web" not found`},
		"?sinceSeconds=7200&sinceTime=2026-01-01T00:00:00Z": {http.StatusUnprocessableEntity, `{"message": "Invalid request."}`},
		"?sinceSeconds=5&sinceTime=soon":                    {http.StatusBadRequest, `{"message": "Unable to decode query."}`},
	} {
		if code, body := n.get("/containerLogs/default/web/c" + query); code != want.code || body != want.body {
			t.Errorf("%s: %d %q, want %d %q", query, code, body, want.code, want.body)
		}
	}
	for path, want := range map[string]string{
		"/containerLogs/default/db/c":  `pod "db" does not exist`,
		"/containerLogs/default/web/d": `container "d" not found in pod "web"`,
	} {
		if code, body := n.get(path); code != http.StatusNotFound || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	if err := n.cri.Service().RemoveContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	want := "unable to retrieve container logs for containerd://" + id
	if code, body := n.get("/containerLogs/default/web/c"); code != http.StatusBadRequest || body != want {
		t.Errorf("of a container that is gone: %d %q, want %q", code, body, want)
	}
}

// What there is no log of yet says why, in the kubelet's words.
func TestLogsOfWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	pod := newPod("web")
	id := "containerd://" + n.run(pod)
	n.runtime.Write(strings.TrimPrefix(id, "containerd://"), "stdout", "said")
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	ended := func(id string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id}}
	}
	for name, tc := range map[string]struct {
		state, last corev1.ContainerState
		previous    bool
		none        bool // it has no status
		code        int
		body        string
	}{
		"running":              {state: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, code: 200, body: "said"},
		"ended":                {state: ended(id), code: 200, body: "said"},
		"ended, unknown":       {state: ended(""), code: 400, body: `container "c" in pod "web" is terminated`},
		"ended, known before":  {state: ended(""), last: ended(id), code: 200, body: "said"},
		"waiting after an end": {state: waiting("CrashLoopBackOff"), last: ended(id), code: 200, body: "said"},
		"waiting, end unknown": {state: waiting("CrashLoopBackOff"), last: ended(""), code: 400, body: `container "c" in pod "web" is terminated`},
		"previous":             {state: waiting("CrashLoopBackOff"), last: ended(id), previous: true, code: 200, body: "said"},
		"no previous":          {state: ended(id), previous: true, code: 400, body: `previous terminated container "c" in pod "web" not found`},
		"creating":             {state: waiting("ContainerCreating"), code: 400, body: `container "c" in pod "web" is waiting to start: ContainerCreating`},
		"no image":             {state: waiting("ErrImagePull"), code: 400, body: `container "c" in pod "web" is waiting to start: image can't be pulled`},
		"no image for long": {
			state: waiting("ImagePullBackOff"), code: 400, body: `container "c" in pod "web" is waiting to start: trying and failing to pull image`,
		},
		"nothing known": {code: 400, body: `container "c" in pod "web" is waiting to start - no logs yet`},
		"no status":     {none: true, code: 400, body: `container "c" in pod "web" is not available`},
	} {
		changed := pod.DeepCopy()
		changed.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ContainerID: id, State: tc.state, LastTerminationState: tc.last}}
		if tc.none {
			changed.Status.ContainerStatuses = nil
		}
		n.pods.mu.Lock()
		n.pods.all = []*corev1.Pod{changed}
		n.pods.mu.Unlock()
		path := "/containerLogs/default/web/c"
		if tc.previous {
			path += "?previous=true"
		}
		if code, body := n.get(path); code != tc.code || body != tc.body {
			t.Errorf("%s: %d %q, want %d %q", name, code, body, tc.code, tc.body)
		}
	}
}

// follow reads a log that goes on.
func (n *node) follow(query string) (lines *bufio.Scanner, stop func()) {
	n.t.Helper()
	client, err := rest.HTTPClientFor(n.as("admin"))
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/containerLogs/default/web/c?follow=true"+query, http.NoBody)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		n.t.Fatalf("%s", resp.Status)
	}
	n.t.Cleanup(func() { cancel(); resp.Body.Close() })
	return bufio.NewScanner(resp.Body), cancel
}

// Following goes on when the log is rotated, and ends with the container.
func TestFollow(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.runtime.Script("c", fakecri.Life{Output: []string{"first"}})
	id := n.run(newPod("web"))
	lines, _ := n.follow("&tailLines=1")
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	next("first")
	path := n.logs + "/default_web_uid-of-web/c/0.log"
	for i := range 3 {
		n.runtime.Write(id, "stdout", fmt.Sprint("before ", i))
		next(fmt.Sprint("before ", i))
		if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil {
			t.Fatal(err)
		}
		if err := n.cri.Service().ReopenContainerLog(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		n.runtime.Write(id, "stdout", fmt.Sprint("after ", i))
		next(fmt.Sprint("after ", i))
	}
	n.runtime.Write(id, "stdout", "last")
	n.runtime.Exit(id, 0, "")
	next("last")
	if lines.Scan() {
		t.Errorf("after the end: %q", lines.Text())
	}
}

// Who follows is let go when the node's agent stops, and is not waited for.
func TestFollowEndsWithTheServer(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.runtime.Script("c", fakecri.Life{Output: []string{"first"}})
	n.run(newPod("web"))
	lines, _ := n.follow("")
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	for lines.Scan() {
		t.Errorf("%q", lines.Text())
	}
}
