package server_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// connects are the paths by which connections are made to the workload that deploy made, one of each kind.
func (w *workload) connects() []string {
	plain, kubelet := address(w.plain), address(w.tls)
	return []string{
		fmt.Sprintf("/api/v1/namespaces/default/pods/p:%d/proxy/x", plain.Port), "/api/v1/namespaces/default/services/s:web/proxy/x",
		fmt.Sprintf("/api/v1/nodes/https:n:%d/proxy/x", kubelet.Port),
		"/api/v1/namespaces/default/pods/p/exec?container=c&command=x&stdout=1", "/api/v1/namespaces/default/pods/p/attach?container=c&stdout=1",
		"/api/v1/namespaces/default/pods/p/portforward?ports=80",
	}
}

// TestUpgradeThatFailsLeavesNoConnectionToTheWorkload is CVE-2018-1002105 for pods, services and nodes: after an upgrade
// that was refused, the client must not hold the server's connection to a kubelet, which believes whatever comes over it.
func TestUpgradeThatFailsLeavesNoConnectionToTheWorkload(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	w := newWorkload(t, s)
	plain, kubelet := address(w.plain), address(w.tls)
	deploy(t, s.Client(t, servertest.Default), plain.IP.String(), int32(plain.Port), int32(kubelet.Port))
	for name, tc := range map[string]struct {
		token  string
		answer http.HandlerFunc
	}{
		"not authorized here": {servertest.AliceToken, func(http.ResponseWriter, *http.Request) {}},
		"refused by it":       {servertest.AdminToken, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) }},
		"not upgraded by it":  {servertest.AdminToken, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "no upgrade") }},
		"redirected by it": {servertest.AdminToken, func(rw http.ResponseWriter, req *http.Request) {
			http.Redirect(rw, req, "/elsewhere", http.StatusFound)
		}},
	} {
		w.answerWith(tc.answer)
		for _, path := range w.connects() {
			conn, r := dialServer(t, s)
			// Both requests in one write, so that the second is there when the first is answered.
			if _, err := io.WriteString(conn, upgradeRequest(path, tc.token)+"GET /stolen HTTP/1.1\r\nHost: some\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(name, path, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			switch {
			case tc.token == servertest.AliceToken && resp.StatusCode != http.StatusForbidden:
				t.Errorf("%s: %s: status %d", name, path, resp.StatusCode)
			case resp.StatusCode == http.StatusSwitchingProtocols:
				t.Errorf("%s: %s: upgraded", name, path)
			}
			// What follows is read as a request to this server, if at all: of nobody, to a path that it does not have.
			if next, err := http.ReadResponse(r, nil); err == nil && next.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %s: the second request: %d", name, path, next.StatusCode)
			}
			conn.Close()
			got := w.take()
			if slices.Contains(got, "/stolen") || slices.Contains(got, "/elsewhere") {
				t.Errorf("%s: %s: the workload was asked for %q", name, path, got)
			}
			if tc.token == servertest.AliceToken && len(got) > 0 {
				t.Errorf("%s: %s: the workload was asked for %q", name, path, got)
			}
		}
	}
}

// TestCredentialsOfClientsDoNotReachWorkloads: a pod or node that somebody connects to does not learn how to be that
// somebody, and is told nothing that it could take for the word of a front proxy.
func TestCredentialsOfClientsDoNotReachWorkloads(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Config{})
	w := newWorkload(t, s)
	plain, kubelet := address(w.plain), address(w.tls)
	deploy(t, s.Client(t, servertest.Default), plain.IP.String(), int32(plain.Port), int32(kubelet.Port))
	for _, path := range w.connects() {
		for _, upgrade := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-Websocket-Version: 13\r\n"} {
			conn, r := dialServer(t, s)
			text := "GET " + path + " HTTP/1.1\r\nHost: some\r\nAuthorization: Bearer " + servertest.AdminToken + "\r\n" + upgrade +
				"X-Remote-User: root\r\nX-Remote-Uid: 0\r\nX-Remote-Group: system:masters\r\nX-Remote-Extra-Scopes: all\r\n\r\n"
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			if _, err := http.ReadResponse(r, nil); err != nil {
				t.Fatal(path, err)
			}
			conn.Close()
			w.mu.Lock()
			headers := w.headers
			w.mu.Unlock()
			w.take()
			if strings.Contains(path, "/proxy/") && len(headers) != 1 {
				t.Errorf("%s: %d requests came through", path, len(headers))
			}
			for _, header := range headers {
				for name, values := range header {
					if name == "Authorization" || strings.HasPrefix(name, "X-Remote-") || strings.Contains(strings.Join(values, " "), servertest.AdminToken) {
						t.Errorf("%s: %s: %q came through", path, name, values)
					}
				}
			}
		}
	}
}
