package server_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// TestCollectionReplies: what the deletion of a collection answers from what is stored equals what encoding the list gives.
func TestCollectionReplies(t *testing.T) {
	t.Parallel()
	server := servertest.Start(t, servertest.Config{})
	client := server.Client(t, servertest.Default).CoreV1()
	for _, ns := range []string{"replies", "default"} {
		if ns != "default" {
			if _, err := client.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		runner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "runner"}}
		if _, err := client.ServiceAccounts(ns).Create(t.Context(), runner, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(t *testing.T, method, path, accept, body string, more http.Header) string {
		t.Helper()
		header := http.Header{"Accept": {accept}, "Content-Type": {"application/json"}}
		for key, values := range more {
			header[key] = values
		}
		resp := wire.Send(t, server.URL, servertest.Request{Method: method, Path: path, Body: body, Token: servertest.AdminToken, Header: header})
		if resp.Status >= http.StatusMultipleChoices {
			t.Fatalf("%s %s: %d %s", method, path, resp.Status, resp.Body)
		}
		if resp.Header.Get("Content-Encoding") == "gzip" {
			r, err := gzip.NewReader(strings.NewReader(resp.Body))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return "compressed " + string(plain)
		}
		return resp.Body
	}
	// A weight makes the way to the same encoding another: such requests are encoded anew.
	const stored, encoded = "application/json", "application/json;q=0.9"
	for _, tt := range replies {
		t.Run(tt.collection, func(t *testing.T) {
			if !strings.Contains(tt.collection, "/namespaces/") || strings.HasSuffix(tt.collection, "/services") {
				t.Skip("namespaces and services cannot be deleted as collections, and nodes differ in nothing")
			}
			other := strings.Replace(tt.body, `"name":"`+tt.name+`"`, `"name":"z-other","labels":{"large":"`+strings.Repeat("x", 60)+`"}`, 1)
			other = strings.Replace(other, `,"labels":{"a":"b"}},"spec":{"serviceAccountName"`, `},"spec":{"serviceAccountName"`, 1)
			for _, body := range []string{tt.body, other} {
				ask(t, http.MethodPost, tt.collection, stored, body, nil)
			}
			for _, query := range []string{
				"", "&limit=1", "&labelSelector=large", "&labelSelector=no%3Dthing", "&fieldSelector=metadata.name%3D" + tt.name, "&pretty=true",
				"&propagationPolicy=Background", "&gracePeriodSeconds=0",
			} {
				path := tt.collection + "?dryRun=All" + query
				for _, more := range []http.Header{nil, {"Accept-Encoding": {"gzip"}}} {
					diff := "none"
					for range 10 { // what the server itself writes meanwhile is seen in the list's resourceVersion
						diff = cmp.Diff(ask(t, http.MethodDelete, path, encoded, "", more), ask(t, http.MethodDelete, path, stored, "", more))
						if diff == "" {
							break
						}
					}
					if diff != "" {
						t.Errorf("%s: -encoded +stored:\n%s", query, diff)
					}
				}
			}
			if strings.HasSuffix(tt.collection, "/serviceaccounts") {
				return // the pods below need one
			}
			items := func(list string) string { _, items, _ := strings.Cut(list, `"items":`); return items }
			was := ask(t, http.MethodGet, tt.collection, stored, "", nil)
			got := ask(t, http.MethodDelete, tt.collection, stored, `{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`, nil)
			if diff := cmp.Diff(items(was), items(got)); diff != "" {
				t.Errorf("deleted is not what was there (-was +deleted):\n%s", diff)
			}
			if left := ask(t, http.MethodGet, tt.collection, stored, "", nil); !strings.Contains(left, `"items":[]`) && !strings.Contains(left, `"finalizers":["kubernetes.io/pvc-protection"]`) {
				t.Errorf("left: %s", left)
			}
		})
	}
	t.Run("large", func(t *testing.T) {
		const path = "/api/v1/namespaces/replies/configmaps"
		for _, name := range []string{"a", "b", "c"} {
			ask(t, http.MethodPost, path, stored, `{"metadata":{"name":"`+name+`"},"data":{"x":"`+strings.Repeat("y", 60<<10)+`"}}`, nil)
		}
		zip := http.Header{"Accept-Encoding": {"gzip"}}
		want, got := ask(t, http.MethodDelete, path+"?dryRun=All", encoded, "", zip), ask(t, http.MethodDelete, path, stored, "", zip)
		if len(got) != len(want) || !strings.HasPrefix(got, "compressed ") {
			t.Errorf("%d bytes %.200s, want %d bytes %.200s", len(got), got, len(want), want)
		}
	})
}
