package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowlock-io/rowlock/storage"
)

// Clusters lists all clusters by name.
func (d *Database) Clusters(ctx context.Context) (out []storage.Cluster, err error) {
	const what = "list clusters"
	ctx, end, err := d.begin(ctx, what)
	if err != nil {
		return nil, err
	}
	defer end()
	err = d.query(ctx, what, func(c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, d.sql.Clusters, d.args()...)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[storage.Cluster])
		return err
	})
	return out, err
}

// CreateCluster makes an empty cluster.
func (d *Database) CreateCluster(ctx context.Context, name string) error {
	what := fmt.Sprintf("create cluster %q", name)
	ctx, end, err := d.begin(ctx, what)
	if err != nil {
		return err
	}
	defer end()
	doubt := false // whether an earlier try may have made it
	var taken error
	err = d.query(ctx, what, func(c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, d.sql.CreateCluster, d.args(name)...)
		if code(err) == uniqueViolation {
			taken = storage.ErrExists
			return nil
		}
		doubt = doubt || inDoubt(err)
		return err
	})
	switch {
	case taken != nil && doubt:
		return fmt.Errorf("%s: %w: it is there, perhaps by this call", what, storage.ErrUnknown)
	case taken != nil:
		return fmt.Errorf("%s: %w", what, taken)
	}
	return err
}

const uniqueViolation = "23505"

// OpenCluster returns a handle on a cluster.
func (d *Database) OpenCluster(ctx context.Context, name string) (storage.Store, error) {
	what := fmt.Sprintf("open cluster %q", name)
	ctx, end, err := d.begin(ctx, what)
	if err != nil {
		return nil, err
	}
	defer end()
	s := &Store{db: d, name: name, wake: make(chan struct{}, 1)}
	err = d.query(ctx, what, func(c *pgxpool.Conn) error {
		err := c.QueryRow(ctx, d.sql.OpenCluster, d.args(name)...).Scan(&s.id, &s.seen)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%s: %w", what, storage.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d.stores.add(s)
	return s, nil
}

// DropCluster forgets a cluster at once and removes what is in it in bounded steps. What is left when this is
// interrupted goes with later compactions.
func (d *Database) DropCluster(ctx context.Context, name string) error {
	what := fmt.Sprintf("drop cluster %q", name)
	ctx, end, err := d.begin(ctx, what)
	if err != nil {
		return err
	}
	defer end()
	var dropped int64
	doubt := false // whether an earlier try may have dropped it
	err = d.query(ctx, what, func(c *pgxpool.Conn) error {
		tag, err := c.Exec(ctx, d.sql.DropCluster, d.args(name)...)
		dropped = tag.RowsAffected()
		doubt = doubt || inDoubt(err)
		return err
	})
	switch {
	case err != nil:
		return err
	case dropped == 0 && !doubt:
		return fmt.Errorf("%s: %w", what, storage.ErrNotFound)
	}
	d.tidy(ctx, true)
	return nil
}
