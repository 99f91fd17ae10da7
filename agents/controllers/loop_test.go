package controllers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/agents/crash"
)

// As in the server's process.
func TestMain(m *testing.M) {
	utilruntime.ReallyCrash = false
	utilruntime.PanicHandlers = append(utilruntime.PanicHandlers, (&crash.Handlers{}).Handle)
	os.Exit(m.Run())
}

// api answers lists of Pods and watches of them, with what comes from events.
type api struct{ events <-chan string }

func (a api) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: http.StatusOK, Request: req, Header: http.Header{"Content-Type": {"application/json"}}}
	if req.URL.Query().Get("watch") == "" {
		answer.Body = io.NopCloser(strings.NewReader(`{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},
			"items":[{"metadata":{"name":"a","namespace":"default","uid":"1","resourceVersion":"1"}}]}`))
		return answer, nil
	}
	if req.URL.Query().Get("sendInitialEvents") != "" {
		answer.StatusCode = http.StatusUnprocessableEntity
		answer.Body = io.NopCloser(strings.NewReader(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`))
		return answer, nil
	}
	r, w := io.Pipe()
	answer.Body = r
	go func() {
		defer func() { _ = w.Close() }()
		for {
			select {
			case event := <-a.events:
				_, _ = io.WriteString(w, event)
			case <-req.Context().Done():
				return
			}
		}
	}()
	return answer, nil
}

// reports keep what they are told.
type reports struct {
	mu   sync.Mutex
	up   map[string]bool
	down map[string][]string
}

func (r *reports) Up(loop string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up[loop] = true
}

func (r *reports) Down(loop string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.up, loop)
	if err != nil {
		r.down[loop] = append(r.down[loop], err.Error())
	}
}

func testConfig(t *testing.T, transport http.RoundTripper) (Config, *reports) {
	t.Helper()
	r := &reports{up: map[string]bool{}, down: map[string][]string{}}
	as := func(user.Info) *rest.Config { return &rest.Config{Host: "http://api", Transport: transport, QPS: -1} }
	client, err := kubernetes.NewForConfig(as(nil))
	if err != nil {
		t.Fatal(err)
	}
	meta, err := metadata.NewForConfig(as(nil))
	if err != nil {
		t.Fatal(err)
	}
	loops, err := NewOptions().Config()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Loops: loops, As: as, Report: r, Log: slog.New(slog.DiscardHandler), Upstream: slog.New(slog.DiscardHandler),
		Informers: informers.NewSharedInformerFactory(client, 0), Metadata: metadatainformer.NewSharedInformerFactory(meta, 0),
	}, r
}

// lives makes loops that do first[n] in their n-th life, and nothing after.
func lives(name string, first ...func(context.Context, app.ControllerContext)) maker {
	n := 0
	return maker{name, func(_ context.Context, inside app.ControllerContext) (app.Controller, error) {
		do := func(context.Context, app.ControllerContext) {}
		if n < len(first) {
			do = first[n]
		}
		n++
		return running{name, func(ctx context.Context) { do(ctx, inside); <-ctx.Done() }}, nil
	}}
}

type running struct {
	name string
	run  func(context.Context)
}

func (r running) Name() string            { return r.name }
func (r running) Run(ctx context.Context) { r.run(ctx) }

func TestCrashedLoopsStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, r := testConfig(t, api{})
		tries := 0
		makers := []maker{
			lives("calm"),
			lives("worker", func(ctx context.Context, _ app.ControllerContext) {
				go wait.UntilWithContext(ctx, func(context.Context) { panic("worker's") }, time.Second)
			}),
			lives("run", func(context.Context, app.ControllerContext) { panic("run's") }),
			lives("guarded run", func(ctx context.Context, _ app.ControllerContext) {
				defer utilruntime.HandleCrashWithContext(ctx)
				panic("run's own")
			}),
			lives("exit", func(context.Context, app.ControllerContext) { crash.Panic(1) }),
			{"early", func(context.Context, app.ControllerContext) (app.Controller, error) {
				tries++
				if tries == 1 {
					return running{"early", func(context.Context) {}}, nil
				}
				return running{"early", func(ctx context.Context) { <-ctx.Done() }}, nil
			}},
		}
		handled := 0
		handler := maker{"handler", func(_ context.Context, inside app.ControllerContext) (app.Controller, error) {
			_, err := inside.InformerFactory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc: func(any) {
					if handled++; handled == 1 {
						panic("handler's")
					}
				},
			})
			return running{"handler", func(ctx context.Context) { <-ctx.Done() }}, err
		}}
		made := 0
		makers = append(makers, maker{"make", func(context.Context, app.ControllerContext) (app.Controller, error) {
			switch made++; made {
			case 1:
				panic("maker's")
			case 2:
				return nil, errors.New("not yet")
			}
			return running{"make", func(ctx context.Context) { <-ctx.Done() }}, nil
		}}, handler, maker{"unwanted", func(context.Context, app.ControllerContext) (app.Controller, error) { return nil, nil }})

		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, cfg, makers) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		r.mu.Lock()
		wantUp := map[string]bool{
			"calm": true, "worker": true, "run": true, "guarded run": true, "exit": true, "early": true, "handler": true, "make": true,
		}
		wantDown := map[string][]string{
			"worker": {"panic: worker's"}, "run": {"panic: run's"}, "guarded run": {"panic: run's own"}, "handler": {"panic: handler's"},
			"exit": {"it wanted the process to exit with code 1"}, "early": {"it ended by itself"}, "make": {"panic: maker's", "not yet"},
		}
		if diff := cmp.Diff(wantUp, r.up); diff != "" {
			t.Errorf("running (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantDown, r.down); diff != "" {
			t.Errorf("went down (-want +got):\n%s", diff)
		}
		r.mu.Unlock()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(r.up) > 0 {
			t.Errorf("still running: %v", r.up)
		}
	})
}

// What a life hung onto shared informers goes with it, however many there are.
func TestRestartsLeaveNoHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan string)
		cfg, _ := testConfig(t, api{events})
		var mu sync.Mutex
		told := map[int]int{}
		life := 0
		restless := maker{"restless", func(_ context.Context, inside app.ControllerContext) (app.Controller, error) {
			life++
			this := life
			pods := inside.InformerFactory.Core().V1().Pods()
			_, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(any, any) {
				mu.Lock()
				defer mu.Unlock()
				told[this]++
			}})
			if err != nil {
				return nil, err
			}
			index := cache.Indexers{"all": func(any) ([]string, error) { return []string{"all"}, nil }}
			if err := pods.Informer().AddIndexers(index); err != nil {
				return nil, err
			}
			if err := pods.Informer().GetIndexer().AddIndexers(index); err != nil {
				return nil, err
			}
			return running{"restless", func(ctx context.Context) {
				if this < 5 {
					return
				}
				<-ctx.Done()
			}}, nil
		}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, cfg, []maker{restless}) }()
		time.Sleep(time.Hour)
		events <- `{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"default","uid":"1","resourceVersion":"2"}}}`
		synctest.Wait()
		mu.Lock()
		if diff := cmp.Diff(map[int]int{5: 1}, told); diff != "" {
			t.Errorf("updates by life (-want +got):\n%s", diff)
		}
		mu.Unlock()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A loop that does not stop after a crash is left behind, and what it does then has no effect.
func TestLoopLeftBehindIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, r := testConfig(t, api{})
		var clients []kubernetes.Interface
		free := make(chan struct{})
		stuck := maker{"stuck", func(_ context.Context, inside app.ControllerContext) (app.Controller, error) {
			client, err := inside.ClientBuilder.Client("stuck")
			clients = append(clients, client)
			if len(clients) > 1 {
				return running{"stuck", func(ctx context.Context) { <-ctx.Done() }}, err
			}
			return running{"stuck", func(ctx context.Context) {
				go wait.UntilWithContext(ctx, func(context.Context) { panic("with a lock held") }, time.Second)
				<-free
			}}, err
		}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, cfg, []maker{stuck}) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		r.mu.Lock()
		if !r.up["stuck"] || len(clients) != 2 {
			t.Errorf("up: %v after %d lives, want a second one", r.up, len(clients))
		}
		r.mu.Unlock()
		if _, err := clients[0].CoreV1().Pods("").List(ctx, metav1.ListOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("request of the first life: %v, want it canceled", err)
		}
		if _, err := clients[1].CoreV1().Pods("").List(ctx, metav1.ListOptions{}); err != nil {
			t.Errorf("request of the second life: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(free)
	})
}
