package objects

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// tokens are kept in memory only, and for as long as their pods are on the node.
type tokens struct {
	client kubernetes.Interface
	log    *slog.Logger

	mu   sync.Mutex
	have map[tokenKey]token
}

type tokenKey struct {
	pod               types.UID
	account, audience string
	seconds           int64 // it is asked to live
}

type token struct {
	text    string
	renew   time.Time
	expires time.Time
}

// Token returns a token of a pod's service account that is bound to the pod. It is asked for again when four fifths of its life have
// passed, or a day; when that fails the old one does while it is valid.
func (o *Objects) Token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, error) {
	t := &o.tokens
	id := tokenKey{pod: pod.UID, account: pod.Spec.ServiceAccountName, audience: p.Audience}
	if p.ExpirationSeconds != nil {
		id.seconds = *p.ExpirationSeconds
	}
	t.mu.Lock()
	old, ok := t.have[id]
	t.mu.Unlock()
	now := time.Now()
	if ok && now.Before(old.renew) {
		return old.text, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := t.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	switch {
	case err != nil && !ok:
		return "", fmt.Errorf("failed to fetch token: %w", err)
	case err != nil && now.After(old.expires):
		return "", fmt.Errorf("token of service account %q for pod %q expired and refresh failed: %w", pod.Spec.ServiceAccountName, pod.Name, err)
	case err != nil:
		t.log.Warn("Token was not renewed", "pod", pod.Namespace+"/"+pod.Name, "expires", old.expires, "error", err)
		return old.text, nil
	}
	fresh := token{text: answer.Status.Token, expires: answer.Status.ExpirationTimestamp.Time}
	fresh.renew = renewal(now, fresh.expires, answer.Spec.ExpirationSeconds)
	t.mu.Lock()
	t.have[id] = fresh
	t.mu.Unlock()
	return fresh.text, nil
}

// renewal is when a token is asked for again. The life that the server gave may be longer than what is said to end by then.
func renewal(now, expires time.Time, seconds *int64) time.Time {
	life := expires.Sub(now)
	if seconds != nil {
		life = time.Duration(*seconds) * time.Second
	}
	at, day := expires.Add(-life/5), expires.Add(-life).Add(24*time.Hour)
	if day.Before(at) {
		at = day
	}
	return at.Add(-rand.N(10 * time.Second)) // not all at once
}

func (t *tokens) forget(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.have {
		if id.pod == pod {
			delete(t.have, id)
		}
	}
}
