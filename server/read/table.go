package read

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// table is what the tables of one resource have in common.
type table struct {
	columns  []byte // JSON
	age      int    // the column that is printed for each request; -1: there is none
	restarts int    // the column that may tell how long ago something was; -1: there is none
}

// newTable prepares tables; nil when the columns cannot be had, so that upstream may tell why.
func (r *Resource) newTable() *table {
	printed, err := r.Table.ConvertToTable(context.Background(), r.Codec.Config().NewList(), &metav1.TableOptions{})
	if err != nil {
		return nil
	}
	columns, err := json.Marshal(printed.ColumnDefinitions)
	if err != nil {
		return nil
	}
	named := func(name string) int {
		return slices.IndexFunc(printed.ColumnDefinitions, func(c metav1.TableColumnDefinition) bool { return c.Name == name })
	}
	return &table{columns: columns, age: named("Age"), restarts: named("Restarts")}
}

// row is what a table shows of one state of an object.
type row struct {
	line     []byte // JSON from the cells up to the object, without the age
	age      int    // where in line the age belongs; -1: nowhere
	created  time.Time
	metaFrom int // where in the stored JSON the metadata begins
	metaTo   int
}

// rowObject is what stands between the cells and the metadata.
const rowObject = `"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":`

// errNotPlain tells that an object is one whose row cannot be put together from its bytes.
var errNotPlain = errors.New("row needs more than bytes")

// rowBytes is what a row takes in memory beside its line.
const rowBytes = 192

// row finds the row of an object, or makes it.
func (r *Resource) row(t *table, v *object.View) (*row, error) {
	made, err := v.Derived(func() (any, int, error) {
		made, keep, err := r.newRow(t, v)
		if err != nil || !keep {
			return made, 0, err
		}
		return made, rowBytes + cap(made.line), nil
	})
	if err != nil {
		return nil, err
	}
	return made.(*row), nil
}

// newRow prints an object. keep tells that the row stays true for as long as the object is in this state.
func (r *Resource) newRow(t *table, v *object.View) (made *row, keep bool, err error) {
	data, err := v.Plain()
	if err != nil {
		return nil, false, err
	}
	if !bytes.HasPrefix(data, r.jsonHead) {
		return nil, false, errNotPlain // stored in another version
	}
	made = &row{age: -1}
	if made.metaFrom, made.metaTo, err = v.Metadata(); err != nil {
		return nil, false, err
	}
	obj, err := v.Object()
	if err != nil {
		return nil, false, err
	}
	printed, err := r.Table.ConvertToTable(context.Background(), obj, &metav1.TableOptions{NoHeaders: true})
	if err != nil || len(printed.Rows) != 1 || len(printed.Rows[0].Cells) == 0 {
		return nil, false, errNotPlain
	}
	accessor, ok := obj.(metav1.ObjectMetaAccessor)
	if !ok {
		return nil, false, errNotPlain
	}
	made.created = accessor.GetObjectMeta().GetCreationTimestamp().Time
	cells := printed.Rows[0].Cells
	line := []byte(`{"cells":[`)
	for i, cell := range cells {
		if i > 0 {
			line = append(line, ',')
		}
		if i == t.age {
			made.age = len(line)
			continue
		}
		encoded, err := json.Marshal(cell)
		if err != nil {
			return nil, false, errNotPlain
		}
		line = append(line, encoded...)
	}
	line = append(line, "],"...)
	if conditions := printed.Rows[0].Conditions; len(conditions) > 0 {
		encoded, err := json.Marshal(conditions)
		if err != nil {
			return nil, false, errNotPlain
		}
		line = append(append(append(line, `"conditions":`...), encoded...), ',')
	}
	made.line = slices.Clip(append(line, rowObject...))
	return made, t.restarts < 0 || t.restarts >= len(cells) || !strings.Contains(fmt.Sprint(cells[t.restarts]), "("), nil
}

// append appends the row at a revision and a time. data and off are what JSON of the View returned.
func (w *row) append(dst, data []byte, off int, rev storage.Revision, now time.Time) []byte {
	if w.age < 0 {
		dst = append(dst, w.line...)
	} else {
		dst = append(append(dst, w.line[:w.age]...), '"')
		if w.created.IsZero() {
			dst = append(dst, `\u003cunknown\u003e`...)
		} else {
			dst = append(dst, duration.HumanDuration(now.Sub(w.created))...)
		}
		dst = append(append(dst, '"'), w.line[w.age:]...)
	}
	dst = object.AppendJSON(dst, data[w.metaFrom:w.metaTo], off-w.metaFrom, rev)
	return append(dst, "}}"...)
}

// listTable answers a list as a table. When it returns false nothing was written.
func (h *Handler) listTable(w http.ResponseWriter, req *http.Request, res *Resource, p *page) bool {
	t := res.table()
	if t == nil {
		return false
	}
	// All rows are found before the first is written, as with other lists.
	rows := make([]*row, len(p.entries))
	for i, e := range p.entries {
		var err error
		switch rows[i], err = res.row(t, res.Codec.View(e)); {
		case errors.Is(err, errNotPlain):
			return false
		case err != nil:
			h.fail(w, req, res, fmt.Errorf("read %s: %w", e.Key, err))
			return true
		}
	}
	meta, err := json.Marshal(p.meta())
	if err != nil {
		h.fail(w, req, res, fmt.Errorf("encode list metadata: %w", err))
		return true
	}
	out := h.newBody(w, req, mediaJSON.contentType())
	defer out.release()
	out.buf = append(append(out.buf, `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":`...), meta...)
	out.buf = append(append(append(out.buf, `,"columnDefinitions":`...), t.columns...), `,"rows":[`...)
	now := time.Now()
	for i, e := range p.entries {
		data, off, err := res.Codec.View(e).JSON()
		if err != nil {
			panic(http.ErrAbortHandler) // it could be read a moment ago
		}
		if i > 0 {
			out.buf = append(out.buf, ',')
		}
		out.buf = rows[i].append(out.buf, data, off, e.Revision, now)
		if out.full() && !out.spill() {
			return true // nobody is left to read the rest
		}
	}
	out.buf = append(out.buf, "]}\n"...)
	out.finish()
	return true
}
