package fieldmanager

import (
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// structs compares two objects of one Go type as typed.TypedValue.Compare does, but by a plan made once for the type in
// place of generic values made for each field: see outline.
func (o *outline) structs(l, r reflect.Value) *typed.Comparison {
	out := &typed.Comparison{Added: &fieldpath.Set{}, Modified: &fieldpath.Set{}, Removed: &fieldpath.Set{}}
	root := place{sets: [3]*fieldpath.Set{out.Added, out.Modified, out.Removed}}
	o.walk(&root, l, r)
	return out
}

// verdict is which set of a comparison a field goes into.
type verdict int

const (
	added verdict = iota
	modified
	removed
)

// place is where a walk stands. Sets are made when there is something to put into them.
type place struct {
	above *place
	at    fieldpath.PathElement
	sets  [3]*fieldpath.Set // what is below this place
}

func (p *place) set(v verdict) *fieldpath.Set {
	if p.sets[v] == nil {
		p.sets[v] = p.above.set(v).Children.Descend(p.at)
	}
	return p.sets[v]
}

// mark puts the place itself into a set. The whole object is in none.
func (p *place) mark(v verdict) {
	if p.above != nil {
		p.above.set(v).Members.Insert(p.at)
	}
}

// walk compares two values. One that is not there is invalid, one that is null is nil.
func (o *outline) walk(p *place, l, r reflect.Value) {
	var empty bool
	switch o.sort {
	case ofLeaf:
		o.leaf(p, l, r)
		return
	case ofStruct:
		empty = o.structWalk(p, inside(l), inside(r))
	case ofMap:
		empty = o.mapWalk(p, inside(l), inside(r))
	case ofList:
		empty = o.listWalk(p, inside(l), inside(r))
	}
	switch {
	case empty:
		o.leaf(p, l, r) // so that null and empty are told apart
	case !l.IsValid():
		p.mark(added)
	case !r.IsValid():
		p.mark(removed)
	}
}

// inside is what a pointer leads to; invalid for null.
func inside(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if k := v.Kind(); (k == reflect.Map || k == reflect.Slice) && v.IsNil() {
		return reflect.Value{}
	}
	return v
}

func (o *outline) leaf(p *place, l, r reflect.Value) {
	switch {
	case !l.IsValid():
		p.mark(added)
	case !r.IsValid():
		p.mark(removed)
	case !same(l, r):
		p.mark(modified)
	}
}

// same tells whether two values are equal, as value.Equals does. reflect.DeepEqual is stricter: it tells apart what looks
// the same from outside.
func same(l, r reflect.Value) bool {
	switch l.Kind() {
	case reflect.String:
		return l.String() == r.String()
	case reflect.Bool:
		return l.Bool() == r.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return l.Int() == r.Int()
	}
	lp, rp := pointer(l), pointer(r)
	if reflect.DeepEqual(lp, rp) {
		return true
	}
	lv, lerr := value.NewValueReflect(lp)
	rv, rerr := value.NewValueReflect(rp)
	return lerr == nil && rerr == nil && value.Equals(rv, lv)
}

// pointer is a pointer to a value, or to a copy of one that is in a map.
func pointer(v reflect.Value) any {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Interface()
	}
	if v.CanAddr() {
		return v.Addr().Interface()
	}
	to := reflect.New(v.Type())
	to.Elem().Set(v)
	return to.Interface()
}

// structWalk answers true when neither has a field.
func (o *outline) structWalk(p *place, l, r reflect.Value) bool {
	empty := true
	for i := range o.fields {
		f := &o.fields[i]
		lf, rf := f.of(l), f.of(r)
		if !lf.IsValid() && !rf.IsValid() {
			continue
		}
		empty = false
		next := place{above: p, at: f.element}
		f.outline.walk(&next, lf, rf)
	}
	return empty
}

// of is a field of a struct; invalid when it is left out.
func (f *member) of(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	out := f.entry.GetFrom(v)
	if f.entry.CanOmit(out) {
		return reflect.Value{}
	}
	return out
}

func (o *outline) mapWalk(p *place, l, r reflect.Value) bool {
	if length(l) == 0 && length(r) == 0 {
		return true
	}
	visit := func(key string, lv, rv reflect.Value) {
		next := place{above: p, at: fieldpath.PathElement{FieldName: &key}}
		o.element.walk(&next, lv, rv)
	}
	if l.IsValid() {
		for it := l.MapRange(); it.Next(); {
			lv, rv := it.Value(), reflect.Value{}
			if r.IsValid() {
				rv = r.MapIndex(it.Key())
			}
			if rv.IsValid() && scalars(lv, rv) {
				continue
			}
			visit(it.Key().String(), lv, rv)
		}
	}
	if r.IsValid() {
		for it := r.MapRange(); it.Next(); {
			if !l.IsValid() || !l.MapIndex(it.Key()).IsValid() {
				visit(it.Key().String(), reflect.Value{}, it.Value())
			}
		}
	}
	return false
}

// scalars tells whether two values are equal strings.
func scalars(l, r reflect.Value) bool {
	return l.Kind() == reflect.String && l.String() == r.String()
}

func length(v reflect.Value) int {
	if !v.IsValid() {
		return 0
	}
	return v.Len()
}

// item is an item of an associative list.
type item struct {
	at fieldpath.PathElement
	v  reflect.Value
}

func (o *outline) listWalk(p *place, l, r reflect.Value) bool {
	if length(l) == 0 && length(r) == 0 {
		return true
	}
	if length(l) == length(r) && reflect.DeepEqual(pointer(l), pointer(r)) {
		return false
	}
	ls, rs := o.items(l), o.items(r)
	for len(ls) > 0 || len(rs) > 0 {
		var lsame, rsame []item
		switch {
		case len(rs) == 0 || len(ls) > 0 && ls[0].at.Compare(rs[0].at) < 0:
			lsame, ls = group(ls)
		case len(ls) == 0 || ls[0].at.Compare(rs[0].at) > 0:
			rsame, rs = group(rs)
		default:
			lsame, ls = group(ls)
			rsame, rs = group(rs)
		}
		o.itemWalk(p, lsame, rsame)
	}
	return false
}

// group cuts off the items that are the same as the first.
func group(items []item) (first, rest []item) {
	n := 1
	for n < len(items) && items[n].at.Compare(items[0].at) == 0 {
		n++
	}
	return items[:n], items[n:]
}

// itemWalk compares the items that have one key. Of those that come more than once it is only owned that they do.
func (o *outline) itemWalk(p *place, ls, rs []item) {
	next := place{above: p}
	switch {
	case len(ls) <= 1 && len(rs) <= 1:
		var lv, rv reflect.Value
		if len(ls) > 0 {
			next.at, lv = ls[0].at, ls[0].v
		}
		if len(rs) > 0 {
			next.at, rv = rs[0].at, rs[0].v
		}
		if len(ls) > 0 {
			next.at = ls[0].at
		}
		o.element.walk(&next, lv, rv)
	case len(ls) >= 2 && len(rs) >= 2:
		next.at = ls[0].at
		if !slices.EqualFunc(ls, rs, func(a, b item) bool { return same(a.v, b.v) }) {
			next.mark(modified)
		}
	case len(ls) >= 2:
		next.at = ls[0].at
		if len(rs) > 0 {
			o.element.walk(&next, reflect.Value{}, rs[0].v)
		}
		next.mark(removed)
	default:
		next.at = rs[0].at
		if len(ls) > 0 {
			o.element.walk(&next, ls[0].v, reflect.Value{})
		}
		next.mark(added)
	}
}

// items returns the items of a list by key; those of one key as they are in the list.
func (o *outline) items(list reflect.Value) []item {
	if length(list) == 0 {
		return nil
	}
	out := make([]item, list.Len())
	for i := range out {
		v := list.Index(i)
		out[i] = item{o.key(v), v}
	}
	slices.SortStableFunc(out, func(a, b item) int { return a.at.Compare(b.at) })
	return out
}

// key is what an item is told apart by.
func (o *outline) key(v reflect.Value) fieldpath.PathElement {
	if len(o.keys) == 0 {
		own := plain(v)
		return fieldpath.PathElement{Value: &own}
	}
	list := make(value.FieldList, 0, len(o.keys))
	for i := range o.keys {
		k := &o.keys[i]
		if f := inside(k.member.of(v)); f.IsValid() {
			list = append(list, value.Field{Name: k.name, Value: plain(f)})
		} else if k.preset != nil {
			list = append(list, value.Field{Name: k.name, Value: k.preset})
		}
	}
	return fieldpath.PathElement{Key: &list}
}

// plain is a scalar as a value that does not lead to the object.
func plain(v reflect.Value) value.Value {
	switch v.Kind() {
	case reflect.String:
		return value.NewValueInterface(strings.Clone(v.String()))
	case reflect.Bool:
		return value.NewValueInterface(v.Bool())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return value.NewValueInterface(int64(v.Uint())) //nolint:gosec // they fit
	}
	return value.NewValueInterface(v.Int())
}
