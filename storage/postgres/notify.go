package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// notifyEvery is how much time this process leaves between two notifications, whatever it commits.
const notifyEvery = 10 * time.Millisecond

// maxPayload stays below what Postgres takes (8,000 bytes).
const maxPayload = 7000

// news gathers the heads that other processes should hear of.
type news struct {
	mu    sync.Mutex
	heads map[int64]storage.Revision
	all   bool          // whoever hears should look at all clusters
	kick  chan struct{} // holds one token while there is something to say
}

func (n *news) add(cluster int64, head storage.Revision) {
	n.mu.Lock()
	if n.heads == nil {
		n.heads = map[int64]storage.Revision{}
	}
	n.heads[cluster] = max(n.heads[cluster], head)
	n.mu.Unlock()
	n.wake()
}

// addAll answers the question of another process.
func (n *news) addAll() {
	n.mu.Lock()
	n.all = true
	n.mu.Unlock()
	n.wake()
}

func (n *news) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

func (n *news) take() (heads map[int64]storage.Revision, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	heads, all = n.heads, n.all
	n.heads, n.all = nil, false
	return heads, all
}

// asking stands behind the sender of a notification that asks others to answer.
const asking = " ?"

// say renders what is to be said; empty when that is nothing.
func (d *Database) say() string {
	heads, all := d.news.take()
	if all {
		return d.id
	}
	if d.audience.ask(time.Now()) {
		text := payload(d.id+asking, heads)
		if len(heads) > 0 && text == d.id+asking {
			return d.id // too much to name: that comes first
		}
		return text
	}
	if len(heads) == 0 {
		return ""
	}
	return payload(d.id, heads)
}

// payload renders "sender cluster:head cluster:head …", where " ?" may stand behind the sender. When that is too long it names no cluster, which means all.
func payload(sender string, heads map[int64]storage.Revision) string {
	var b strings.Builder
	b.WriteString(sender)
	for cluster, head := range heads {
		fmt.Fprintf(&b, " %d:%d", cluster, head)
		if b.Len() > maxPayload {
			return sender
		}
	}
	return b.String()
}

// notifyLoop tells other processes which clusters moved: the first news at once, what follows together. Each is a
// transaction of its own, because Postgres lets those that notify commit only one at a time.
func (d *Database) notifyLoop() {
	ctx := d.closing
	for {
		select {
		case <-d.news.kick:
		case <-ctx.Done():
			return
		}
		text := d.say()
		if text == "" {
			continue
		}
		err := d.query(ctx, "notify", func(c *pgxpool.Conn) error {
			_, err := c.Exec(ctx, d.sql.Notify, d.args(text)...)
			return err
		})
		if err != nil && ctx.Err() == nil {
			d.audience.reset()
			d.log.Debug("Notifying other replicas went wrong", "error", err)
		}
		if !wait(ctx, notifyEvery) {
			return
		}
	}
}

// listenLoop hears of other processes' commits. It is at best as good as the poll, only quicker, so trouble here is
// not an error of the store.
func (d *Database) listenLoop() {
	ctx := d.closing
	for delay := time.Second; ; delay = min(2*delay, 30*time.Second) {
		began := time.Now()
		err := d.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			delay = time.Second
		}
		d.log.Info("Listening for notifications was interrupted", "error", err, "retryAfter", delay)
		if !wait(ctx, delay) {
			return
		}
	}
}

func (d *Database) listen(ctx context.Context) error {
	defer d.hears.Store(false)
	defer d.audience.reset()
	conn, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bye)
	}()
	if _, err := conn.Exec(ctx, "LISTEN rowlock", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	d.audience.reset()
	d.news.wake() // to ask who else listens
	for _, s := range d.stores.of(0) {
		s.signal() // for what was missed
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		// Our own come back too. A pooler may take the LISTEN and deliver nothing, so only hearing is proof.
		d.hears.Store(true)
		d.heard(n.Payload)
	}
}

// heard takes in a notification. Anybody may send one, so nothing in it is trusted beyond being a hint.
func (d *Database) heard(payload string) {
	sender, rest, named := strings.Cut(payload, " ")
	question := rest == asking[1:] || strings.HasPrefix(rest, asking[1:]+" ")
	if sender == d.id {
		if question {
			d.audience.echoed(time.Now())
		}
		return
	}
	if missed := d.audience.heard(time.Now()); missed || question {
		d.news.addAll()
	}
	if !named {
		for _, s := range d.stores.of(0) {
			s.signal()
		}
		return
	}
	for part := range strings.FieldsSeq(rest) {
		id, head, _ := strings.Cut(part, ":")
		cluster, err1 := strconv.ParseInt(id, 10, 64)
		revision, err2 := strconv.ParseInt(head, 10, 64)
		if err1 != nil || err2 != nil || cluster == 0 || revision < 0 {
			continue
		}
		for _, s := range d.stores.of(cluster) {
			if storage.Revision(revision) > s.known() {
				s.signal()
			}
		}
	}
}
