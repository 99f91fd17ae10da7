package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// Commit judges each op against the present and makes those that succeed visible together, in one round trip.
func (s *Store) Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error) {
	const what = "commit"
	if err := storage.CheckOps(ops); err != nil {
		return storage.Committed{}, fmt.Errorf("%s: %w", what, err)
	}
	ctx, end, err := s.begin(ctx, what)
	if err != nil {
		return storage.Committed{}, err
	}
	defer end()
	done, err := s.commit(ctx, what, newRequest(ops))
	if err != nil {
		return storage.Committed{}, err
	}
	s.db.committed(s, done)
	return done, nil
}

func (s *Store) commit(ctx context.Context, what string, req *request) (storage.Committed, error) {
	for try := 1; ; try++ {
		// A new name for each try: what was given up under the old one stays given up.
		origin := int64(rand.Uint64())
		known := s.known()
		answer, err := s.send(ctx, origin, req)
		if err != nil && inDoubt(err) {
			s.db.log.Warn("Lost the answer to a commit", "cluster", s.name, "error", err)
			done, found, settleErr := s.settle(ctx, what, origin, known, req)
			if settleErr != nil || found {
				return done, settleErr
			}
		}
		switch {
		case err == nil && answer.status == statusGone:
			return storage.Committed{}, s.gone(what)
		case err == nil:
			return answer.committed(req), nil
		case try == attempts || !s.db.again(ctx, try, err):
			return storage.Committed{}, s.db.translate(ctx, what, err)
		}
	}
}

// request is a commit as the function rowlock_commit takes it: a column for each part of the ops.
type request struct {
	ops  []storage.Op
	sent []int // indexes of the ops that the database is asked about

	relaxed                      bool
	resources, namespaces, names []string
	verbs, expects               []int64
	datas                        [][]byte
}

func newRequest(ops []storage.Op) *request {
	n := len(ops)
	r := &request{
		ops: ops, sent: make([]int, 0, n), relaxed: true,
		resources: make([]string, 0, n), namespaces: make([]string, 0, n), names: make([]string, 0, n),
		verbs: make([]int64, 0, n), expects: make([]int64, 0, n), datas: make([][]byte, 0, n),
	}
	for i := range ops {
		op := &ops[i]
		if len(op.Data) > storage.MaxObjectBytes {
			continue // refused whatever is there
		}
		data := op.Data
		if data == nil && op.Verb != storage.Delete {
			data = []byte{}
		}
		r.sent = append(r.sent, i)
		r.relaxed = r.relaxed && op.Relaxed
		r.resources = append(r.resources, op.Key.Resource)
		r.namespaces = append(r.namespaces, op.Key.Namespace)
		r.names = append(r.names, op.Key.Name)
		r.verbs = append(r.verbs, int64(op.Verb))
		r.expects = append(r.expects, int64(op.Expect))
		r.datas = append(r.datas, data)
	}
	return r
}

// What the database's functions answer as status.
const (
	statusDone    = 0
	statusGone    = 1 // there is no such cluster
	statusGivenUp = 2
)

// answer is what rowlock_commit returns. All but status is nil unless status is statusDone.
type answer struct {
	status              int32
	before, head, epoch *int64
	at                  *time.Time
	present             []int64 // for each op that was sent
}

func (s *Store) send(ctx context.Context, origin int64, req *request) (a answer, err error) {
	err = s.db.once(ctx, func(c *pgxpool.Conn) error {
		return c.QueryRow(ctx, s.db.sql.Commit, s.db.args(s.id, origin, req.relaxed, s.db.lockTimeout(),
			req.resources, req.namespaces, req.names, req.verbs, req.expects, req.datas)...).
			Scan(&a.status, &a.before, &a.head, &a.epoch, &a.at, &a.present)
	})
	return a, err
}

func (d *Database) lockTimeout() string {
	return strconv.FormatInt(max(d.cfg.LockTimeout.Milliseconds(), 1), 10) + "ms"
}

// committed judges each op by what the database found in its place. The database judged by the same rule.
func (a *answer) committed(req *request) storage.Committed {
	done := storage.Committed{
		Before:  storage.Position{Epoch: uint64(*a.epoch), Revision: storage.Revision(*a.before)},
		Head:    storage.Revision(*a.head),
		Time:    *a.at,
		Results: make([]storage.Result, len(req.ops)),
	}
	present := make([]storage.Revision, len(req.ops))
	for i, at := range req.sent {
		present[at] = storage.Revision(a.present[i])
	}
	next := done.Before.Revision
	for i := range req.ops {
		if err := storage.Judge(&req.ops[i], present[i]); err != nil {
			done.Results[i].Err = err
			continue
		}
		next++
		done.Results[i].Revision = next
	}
	return done
}
