package postgres

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

func TestAudience(t *testing.T) {
	t.Parallel()
	var a audience
	at := time.Now()
	check := func(what string, alone, ask bool) {
		t.Helper()
		if got := a.alone(at); got != alone {
			t.Errorf("%s: alone is %t", what, got)
		}
		if got := a.ask(at); got != ask {
			t.Errorf("%s: ask is %t", what, got)
		}
	}
	after := func(d time.Duration) { at = at.Add(d) }
	check("at the start", false, true)
	after(time.Second)
	check("nothing came back", false, false)
	a.echoed(at)
	check("it just came back", false, false)
	after(settle)
	check("and nobody answered", true, false)
	after(believe)
	check("long ago", false, true)
	a.echoed(at)
	after(settle)
	check("again", true, false)
	if !a.heard(at) {
		t.Error("somebody who came may have missed what was not sent")
	}
	if a.heard(at) {
		t.Error("and nothing after that")
	}
	check("somebody came", false, false)
	after(believe)
	check("and was not heard since", false, true)
	a.echoed(at)
	after(settle)
	check("and has gone", true, false)
	a.reset()
	check("the connection is gone", false, true)
	after(believe)
	check("and nothing listens", false, true)
}

// TestAlone: a process that is alone does not notify, and one that comes hears all that is committed from then on.
func TestAlone(t *testing.T) {
	t.Parallel()
	b := newBackend(t).(*backend)
	for _, other := range b.open {
		_ = other.Close() // which made the cluster
	}
	var count counter
	lonely := func(c *Config) { c.PollInterval, c.tracer = time.Hour, &count }
	d := openAt(t, b.url, lonely)
	s := storeOf(t, d)
	eventually(t, "its question to come back", func() bool {
		d.audience.mu.Lock()
		defer d.audience.mu.Unlock()
		return !d.audience.echo.IsZero()
	})
	d.audience.mu.Lock()
	d.audience.echo = d.audience.echo.Add(-settle)
	d.audience.mu.Unlock()
	if !d.audience.alone(time.Now()) {
		t.Fatal("it does not know that it is alone")
	}
	before := count.n.Load()
	for _, name := range []string{"a", "b", "c"} {
		mustCommit(t, s, create(name, "{}"))
	}
	d.news.mu.Lock()
	if got := count.n.Load() - before; got != 3 || len(d.news.heads) > 0 {
		t.Errorf("three commits took %d statements, and %v is to be sent", got, d.news.heads)
	}
	d.news.mu.Unlock()

	came := openAt(t, b.url, func(c *Config) { c.PollInterval = time.Hour })
	follower := storeOf(t, came)
	eventually(t, "it to hear of the other", func() bool { return !d.audience.alone(time.Now()) })
	done := mustCommit(t, s, create("d", "{}"))
	var read storage.Revision
	eventually(t, "the other to hear of a commit", func() bool {
		if woken(follower) { // it reads then only, as a cache does
			batch, err := follower.Changes(t.Context(), 1, 100)
			if err != nil {
				t.Fatal(err)
			}
			read = batch.Revision
		}
		return read >= done.Head
	})
}

// TestLateAnswer: who answers late is told to look at everything, since nothing was sent to it meanwhile.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Database{id: "us"}
		d.news.kick = make(chan struct{}, 1)
		if got := d.say(); got != "us ?" {
			t.Errorf("at the start it says %q, want a question", got)
		}
		d.heard("us ?")
		time.Sleep(settle)
		d.heard("other 1:2")
		if got := d.say(); got != "us" {
			t.Errorf("it says %q, want its name alone, which means all clusters", got)
		}
		d.heard("other ? 1:2")
		if got := d.say(); got != "us" {
			t.Errorf("asked, it says %q, want its name alone", got)
		}
		d.news.add(1, 5)
		if got := d.say(); got != "us 1:5" {
			t.Errorf("it says %q", got)
		}
		if got := d.say(); got != "" {
			t.Errorf("it says %q, with nothing to say", got)
		}
		d.audience.reset()
		d.news.add(1, 6)
		if got := d.say(); got != "us ? 1:6" {
			t.Errorf("it says %q, want a question and its news", got)
		}
		d.audience.reset()
		for i := range int64(5000) {
			d.news.add(i, storage.Revision(1)<<40)
		}
		if got := d.say(); got != "us" {
			t.Errorf("it says %.20q, want its name alone", got)
		}
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
