package serve

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	tokencache "k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/user"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

// How long the API server's answers are kept: the kubelet's defaults.
const (
	TokenTTL    = 2 * time.Minute
	AllowedTTL  = 5 * time.Minute
	DeniedTTL   = 30 * time.Second
	keptAnswers = 1024
	keptKey     = 10000 // bytes of what was asked: whoever has very many groups is asked for each time
	reviewTime  = 10 * time.Second
)

// guard lets in who may.
type guard struct {
	node   string
	who    authenticator.Request
	review *reviewer
	log    *slog.Logger
}

func newGuard(cfg Config) (*guard, error) {
	certificates := requestx509.NewDynamic(func() (x509.VerifyOptions, bool) {
		opts := requestx509.DefaultVerifyOptions()
		if cfg.ClientCAs != nil {
			opts.Roots = cfg.ClientCAs()
		}
		return opts, opts.Roots != nil // without roots they would be the machine's
	}, requestx509.CommonNameUserConversion)
	kinds := []authenticator.Request{certificates}
	if cfg.Tokens != nil {
		kinds = append(kinds, bearertoken.New(tokencache.New(tokens{cfg.Tokens}, false, TokenTTL, TokenTTL)))
	}
	return &guard{
		node: cfg.Node, who: group.NewAuthenticatedGroupAdder(union.New(kinds...)), log: cfg.Log,
		review: &reviewer{client: cfg.SubjectAccess, answers: utilcache.NewLRUExpireCache(keptAnswers)},
	}, nil
}

// protect asks who it is, and whether they may.
func (g *guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who, ok, err := g.who.AuthenticateRequest(req)
		if err != nil || !ok {
			if err != nil {
				g.log.Debug("Request was not authenticated", "path", req.URL.Path, "err", err)
			}
			plain(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		verb, subresources := rights(req.Method, req.URL.Path)
		for _, sub := range subresources {
			allowed, err := g.review.allowed(req.Context(), who.User, &authorizationv1.ResourceAttributes{
				Verb: verb, Version: "v1", Resource: "nodes", Subresource: sub, Name: g.node,
			})
			if err != nil {
				g.log.Warn("Request could not be authorized", "user", who.User.GetName(), "verb", verb, "subresource", sub, "err", err)
				plain(w, http.StatusInternalServerError,
					fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)", who.User.GetName(), verb, sub))
				return
			}
			if allowed {
				next.ServeHTTP(w, req)
				return
			}
		}
		plain(w, http.StatusForbidden,
			fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)\n", who.User.GetName(), verb, subresources))
	})
}

// plain is an error in the form of the kubelet's.
func plain(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(message))
}

// rights are what a request takes: the verb, and the subresources of the node of which one is enough.
func rights(method, path string) (verb string, subresources []string) {
	switch method {
	case http.MethodPost:
		verb = "create"
	case http.MethodGet:
		verb = "get"
	case http.MethodPut:
		verb = "update"
	case http.MethodPatch:
		verb = "patch"
	case http.MethodDelete:
		verb = "delete"
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "pods", "runningpods":
		return verb, []string{"pods", "proxy"}
	case "healthz", "configz":
		return verb, []string{first, "proxy"}
	case "stats", "metrics", "checkpoint", "statusz":
		return verb, []string{first}
	case "logs":
		return verb, []string{"log"}
	case "flagz":
		return verb, []string{"configz"}
	default:
		return verb, []string{"proxy"}
	}
}

// reviewer asks the API server whether somebody may do something, and keeps the answers.
type reviewer struct {
	client  authorizationclient.SubjectAccessReviewsGetter
	answers *utilcache.LRUExpireCache
	asking  singleflight.Group
}

func (r *reviewer) allowed(ctx context.Context, who user.Info, what *authorizationv1.ResourceAttributes) (bool, error) {
	spec := authorizationv1.SubjectAccessReviewSpec{
		ResourceAttributes: what, User: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(),
		Extra: map[string]authorizationv1.ExtraValue{},
	}
	for key, values := range who.GetExtra() {
		spec.Extra[key] = values
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return false, err
	}
	key := string(text)
	if allowed, ok := r.answers.Get(key); ok {
		return allowed.(bool), nil
	}
	// Who waits for the answer to somebody's question does not lose it when that somebody leaves.
	answer := r.asking.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTime)
		defer cancel()
		review, err := r.client.SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		allowed := review.Status.Allowed && !review.Status.Denied
		if len(key) <= keptKey {
			ttl := DeniedTTL
			if allowed {
				ttl = AllowedTTL
			}
			r.answers.Add(key, allowed, ttl)
		}
		return allowed, nil
	})
	select {
	case a := <-answer:
		return a.Err == nil && a.Val.(bool), a.Err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// tokens asks the API server whose a token is.
type tokens struct {
	client authenticationclient.TokenReviewsGetter
}

func (t tokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	review, err := t.client.TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return nil, false, err
	case !review.Status.Authenticated && review.Status.Error != "":
		return nil, false, fmt.Errorf("token: %s", review.Status.Error)
	case !review.Status.Authenticated:
		return nil, false, nil
	}
	who := &user.DefaultInfo{
		Name: review.Status.User.Username, UID: review.Status.User.UID, Groups: review.Status.User.Groups, Extra: map[string][]string{},
	}
	for key, values := range review.Status.User.Extra {
		who.Extra[key] = values
	}
	return &authenticator.Response{User: who}, true, nil
}
