package growth

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	perNamespace = 1000 // objects
	workers      = 64   // that create at once
	connections  = 8
)

// kind is what a server is filled with.
type kind struct {
	name string
	body func(i int) []byte
}

var kinds = map[string]kind{
	"configmaps": {"configmaps", configMap},
	"pods":       {"pods", pod},
}

func namespaceOf(i int) string { return fmt.Sprintf("growth-%d", i/perNamespace) }

func (k kind) collection(namespace string) string {
	return "/api/v1/namespaces/" + namespace + "/" + k.name
}

// labels: one object in a hundred has a part, and no other has an object's own.
func labels(i int) string { return fmt.Sprintf(`"part":"p%d","own":"o%d"`, i%100, i) }

// noise is text that does not compress well, as base64 would.
func noise(i, size int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	r := rand.New(rand.NewPCG(uint64(i), 1))
	b := make([]byte, size)
	for n := range b {
		b[n] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// configMap is one with a value of a kilobyte.
func configMap(i int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"object-%d","labels":{%s}},"data":{"value":%q}}`,
		i, labels(i), noise(i, 1024))
}

// pod is one that takes about eight kilobytes when it is stored.
func pod(i int) []byte {
	var env []string
	for n := range 20 {
		env = append(env, fmt.Sprintf(`{"name":"SETTING_%d","value":%q}`, n, noise(i*20+n, 220)))
	}
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"object-%d","labels":{%s}},"spec":{"containers":[{"name":"main","image":"registry.example/app:1",
		"env":[%s],"resources":{"requests":{"cpu":"100m","memory":"64Mi"}},"ports":[{"containerPort":8080}],
		"readinessProbe":{"httpGet":{"path":"/ready","port":8080}}}]}}`, i, labels(i), strings.Join(env, ","))
}

// fill creates objects 0 to n, with their namespaces.
func (c *client) fill(ctx context.Context, k kind, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	each := func(n int, create func(worker, i int) error) error {
		var next atomic.Int64
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for ctx.Err() == nil {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					if err := create(worker, i); err != nil {
						cancel(err)
					}
				}
			})
		}
		wg.Wait()
		return context.Cause(ctx)
	}
	err := each((n+perNamespace-1)/perNamespace, func(worker, i int) error { return c.namespace(ctx, worker, namespaceOf(i*perNamespace)) })
	if err != nil {
		return err
	}
	return each(n, func(worker, i int) error {
		_, err := c.do(ctx, worker, http.MethodPost, k.collection(namespaceOf(i)), k.body(i))
		return err
	})
}

// namespace makes one in which pods can be created.
func (c *client) namespace(ctx context.Context, conn int, name string) error {
	_, err := c.do(ctx, conn, http.MethodPost, "/api/v1/namespaces", fmt.Appendf(nil, `{"metadata":{"name":%q}}`, name))
	if err == nil {
		_, err = c.do(ctx, conn, http.MethodPost, "/api/v1/namespaces/"+name+"/serviceaccounts", []byte(`{"metadata":{"name":"default"}}`))
	}
	return err
}
