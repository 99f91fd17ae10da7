package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"

	"github.com/rowlock-io/rowlock/storage"
)

// Peek reads one object from a file that another process may have open, as it is on the disk, and takes nothing from that
// process. ErrNotFound means that there is no such cluster or no such object.
func Peek(ctx context.Context, path, cluster string, key storage.Key) (obj storage.Object, err error) {
	what := "get " + key.String()
	st, count, err := loadStatements(queries)
	if err != nil {
		return obj, fmt.Errorf("sqlite: %w", err)
	}
	if _, err := os.Stat(path); err != nil { // to open it would make it
		return obj, fmt.Errorf("sqlite: %w", err)
	}
	c, err := openConn(path, readerPragmas, count)
	if err != nil {
		return obj, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	var row [7]driver.Value
	found, err := c.one(ctx, row[:], st.FindCluster, cluster)
	switch {
	case err != nil:
		return obj, explain(what, err)
	case !found:
		return obj, fmt.Errorf("open cluster %q: %w", cluster, storage.ErrNotFound)
	}
	found, err = c.one(ctx, row[:2], st.GetObject, row[0], key.Resource, key.Namespace, key.Name)
	switch {
	case err != nil:
		return obj, explain(what, err)
	case !found:
		return obj, fmt.Errorf("%s: %w", what, storage.ErrNotFound)
	}
	return storage.Object{Key: key, Revision: revision(row[0]), Data: notNil(blob(row[1]))}, nil
}
