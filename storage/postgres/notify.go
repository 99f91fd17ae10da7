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
	kick  chan struct{} // holds one token while heads is not empty
}

func (n *news) add(cluster int64, head storage.Revision) {
	n.mu.Lock()
	if n.heads == nil {
		n.heads = map[int64]storage.Revision{}
	}
	n.heads[cluster] = max(n.heads[cluster], head)
	n.mu.Unlock()
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

func (n *news) take() map[int64]storage.Revision {
	n.mu.Lock()
	defer n.mu.Unlock()
	heads := n.heads
	n.heads = nil
	return heads
}

// payload renders "sender cluster:head cluster:head …". When that is too long it names no cluster, which means all.
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
		heads := d.news.take()
		if len(heads) == 0 {
			continue
		}
		err := d.query(ctx, "notify", func(c *pgxpool.Conn) error {
			_, err := c.Exec(ctx, d.sql.Notify, d.args(payload(d.id, heads))...)
			return err
		})
		if err != nil && ctx.Err() == nil {
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
	if sender == d.id {
		return
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
