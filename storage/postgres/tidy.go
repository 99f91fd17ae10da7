package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	tidyEvery = time.Minute // by this process; many clusters are compacted more often than that in sum
	tidySteps = 1000
	tidyRows  = 1000     // moved or deleted in one step
	tidyBytes = 16 << 20 // a smaller segment is not worth moving its rows
)

// tidy frees the space of what is below the floors of all clusters, in bounded steps, unless this process did so a
// moment ago. Failing is harmless: the next call goes on.
func (d *Database) tidy(ctx context.Context, now bool) {
	if !d.tidying.TryLock() {
		return
	}
	defer d.tidying.Unlock()
	if !now && time.Since(d.tidied) < tidyEvery {
		return
	}
	for more, step := true, 0; more && step < tidySteps; step++ {
		err := d.query(ctx, "tidy", func(c *pgxpool.Conn) error {
			return c.QueryRow(ctx, d.sql.Tidy, d.args(tidyRows, int64(tidyBytes))...).Scan(&more)
		})
		if err != nil {
			d.log.Info("Tidying was put off", "error", err)
			break
		}
	}
	d.tidied = time.Now()
}

// roll begins a new segment of the log if one is due.
func (d *Database) roll(ctx context.Context) {
	err := d.query(ctx, "roll", func(c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, d.sql.Roll, d.args(d.cfg.SegmentAge.Seconds(), d.cfg.SegmentBytes)...)
		return err
	})
	if err != nil {
		d.log.Info("A new segment of the log was put off", "error", err)
	}
}
