package aggregation

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

// The API of the sample server.
const (
	group        = "wardle.example.com"
	version      = "v1alpha1"
	groupVersion = group + "/" + version
)

func newContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// trust is whom the sample server believes.
type trust struct {
	proxies *x509.CertPool
	names   []string
}

func newTrust(client kubernetes.Interface) (*trust, error) {
	config, err := authenticationConfig(client)
	if err != nil {
		return nil, err
	}
	t := &trust{proxies: x509.NewCertPool()}
	if !t.proxies.AppendCertsFromPEM([]byte(config.Data["requestheader-client-ca-file"])) {
		return nil, errors.New("no authority of front proxies")
	}
	for key, want := range map[string]string{
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-group-headers": `["X-Remote-Group"]`,
		"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	} {
		if got := config.Data[key]; got != want {
			return nil, fmt.Errorf("%s is %s", key, got)
		}
	}
	return t, json.Unmarshal([]byte(config.Data["requestheader-allowed-names"]), &t.names)
}

// user is who sent a request, by the word of a front proxy.
func (t *trust) user(req *http.Request) (string, []string, error) {
	if len(req.TLS.PeerCertificates) == 0 {
		return "", nil, errors.New("no certificate")
	}
	leaf := req.TLS.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: t.proxies, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", nil, err
	}
	if !slices.Contains(t.names, leaf.Subject.CommonName) {
		return "", nil, fmt.Errorf("%s is no front proxy", leaf.Subject.CommonName)
	}
	user := req.Header.Get("X-Remote-User")
	if user == "" {
		return "", nil, errors.New("no user")
	}
	return user, req.Header.Values("X-Remote-Group"), nil
}

// wardle serves flunders, which it keeps in memory.
type wardle struct {
	trust  *trust
	client kubernetes.Interface

	mu       sync.Mutex
	revision int
	flunders map[string]json.RawMessage // by namespace/name
}

func (s *wardle) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, groups, err := s.trust.user(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	const root = "/apis/" + groupVersion
	parts := strings.Split(strings.TrimPrefix(req.URL.Path, root+"/"), "/")
	switch {
	case req.URL.Path == "/apis":
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		_, _ = fmt.Fprintf(w, `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[{"metadata":{"name":%q},
			"versions":[{"version":%q,"freshness":"Current","resources":[{"resource":"flunders","singularResource":"flunder","scope":"Namespaced",
			"responseKind":{"group":%[1]q,"version":%[2]q,"kind":"Flunder"},"verbs":["create","delete","get","list"]}]}]}]}`, group, version)
	case req.URL.Path == root:
		answer(w, http.StatusOK, map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": groupVersion, "resources": []any{
			map[string]any{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": []string{"create", "delete", "get", "list"}},
		}})
	case req.URL.Path == "/openapi/v3":
		answer(w, http.StatusOK, map[string]any{"paths": map[string]any{"apis/" + groupVersion: map[string]string{"serverRelativeURL": "/openapi/v3/apis/" + groupVersion + "?hash=1"}}})
	case req.URL.Path == "/openapi/v3/apis/"+groupVersion:
		answer(w, http.StatusOK, map[string]any{"openapi": "3.0.0", "info": map[string]string{"title": "wardle", "version": "1"}, "paths": map[string]any{}})
	case strings.HasPrefix(req.URL.Path, root+"/") && len(parts) >= 3 && parts[0] == "namespaces" && parts[2] == "flunders":
		s.serveFlunders(w, req, user, groups, parts[1], strings.Join(parts[3:], "/"))
	default:
		status(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	}
}

func (s *wardle) serveFlunders(w http.ResponseWriter, req *http.Request, user string, groups []string, namespace, name string) {
	verb := map[string]string{http.MethodGet: "list", http.MethodPost: "create", http.MethodDelete: "delete"}[req.Method]
	if verb == "list" && name != "" {
		verb = "get"
	}
	if err := may(s.client, req, user, groups, verb, namespace, name); err != nil {
		status(w, http.StatusForbidden, "Forbidden", "wardle: "+err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := namespace + "/" + name
	switch verb {
	case "create":
		var flunder map[string]any
		if err := json.NewDecoder(req.Body).Decode(&flunder); err != nil {
			status(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		s.revision++
		meta, _ := flunder["metadata"].(map[string]any)
		meta["namespace"], meta["resourceVersion"] = namespace, strconv.Itoa(s.revision)
		meta["annotations"] = map[string]string{"created-by": user}
		text, _ := json.Marshal(flunder)
		s.flunders[namespace+"/"+fmt.Sprint(meta["name"])] = text
		answer(w, http.StatusCreated, json.RawMessage(text))
	case "list":
		items := []json.RawMessage{}
		for _, key := range slices.Sorted(maps.Keys(s.flunders)) {
			if strings.HasPrefix(key, namespace+"/") {
				items = append(items, s.flunders[key])
			}
		}
		answer(w, http.StatusOK, map[string]any{
			"kind": "FlunderList", "apiVersion": groupVersion, "metadata": map[string]string{"resourceVersion": strconv.Itoa(s.revision)}, "items": items,
		})
	case "get", "delete":
		flunder := s.flunders[key]
		if flunder == nil {
			status(w, http.StatusNotFound, "NotFound", "flunders "+name+" not found")
			return
		}
		if verb == "delete" {
			delete(s.flunders, key)
		}
		answer(w, http.StatusOK, flunder)
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func status(w http.ResponseWriter, code int, reason, message string) {
	answer(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}
