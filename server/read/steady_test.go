package read

import (
	"context"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	apitesting "k8s.io/kubernetes/pkg/api/testing"
	"k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"
	printerstorage "k8s.io/kubernetes/pkg/printers/storage"
)

// TestSteady: upstream's printers of the steady resources look at the clock for the age only. Moving all times of an
// object is as good as waiting.
func TestSteady(t *testing.T) {
	t.Parallel()
	convertor := printerstorage.TableConvertor{TableGenerator: printers.NewTableGenerator().With(printersinternal.AddHandlers)}
	fill := fuzzer.FuzzerFor(apitesting.FuzzerFuncs, rand.NewSource(1), legacyscheme.Codecs)
	seen := map[schema.GroupResource]bool{}
	for gvk := range legacyscheme.Scheme.AllKnownTypes() {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		if gvk.Version != runtime.APIVersionInternal || !steady[plural.GroupResource()] {
			continue
		}
		seen[plural.GroupResource()] = true
		for range 50 {
			obj, err := legacyscheme.Scheme.New(gvk)
			if err != nil {
				t.Fatal(err)
			}
			fill.Fill(obj)
			shift(reflect.ValueOf(obj).Elem(), func(time.Time) time.Time { return time.Now().Add(-90 * time.Minute) })
			before, age := printed(t, convertor, obj)
			accessor, err := meta.Accessor(obj)
			if err != nil {
				t.Fatal(err)
			}
			if want := duration.HumanDuration(time.Since(accessor.GetCreationTimestamp().Time)); age != "" && age != want {
				t.Fatalf("%s: age %q, want %q", gvk, age, want)
			}
			shift(reflect.ValueOf(obj).Elem(), func(then time.Time) time.Time { return then.Add(-50 * time.Hour) })
			after, _ := printed(t, convertor, obj)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Fatalf("%s: 50 hours later, -before +after:\n%s", gvk, diff)
			}
		}
	}
	for gr := range steady {
		if !seen[gr] {
			t.Errorf("no kind for %s", gr)
		}
	}
}

// printed gives an object's cells and conditions without those that rows do not keep, and its age.
func printed(t *testing.T, convertor printerstorage.TableConvertor, obj runtime.Object) (cells, age string) {
	t.Helper()
	table, err := convertor.ConvertToTable(context.Background(), obj, &metav1.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for i, column := range table.ColumnDefinitions {
		cell := fmt.Sprint(table.Rows[0].Cells[i])
		switch {
		case column.Name == "Age":
			age = cell
		case column.Name == "Created At": // a time, not a distance
		case column.Name == "Restarts" && strings.Contains(cell, "("):
		default:
			kept = append(kept, column.Name+"="+cell)
		}
	}
	return fmt.Sprint(kept, table.Rows[0].Conditions), age
}

// shift changes all times that are set within a value.
func shift(v reflect.Value, move func(time.Time) time.Time) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Elem().CanSet() {
			shift(v.Elem(), move)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			shift(v.Index(i), move)
		}
	case reflect.Struct:
		switch at := v.Addr().Interface().(type) {
		case *metav1.Time:
			if !at.IsZero() {
				at.Time = move(at.Time)
			}
			return
		case *metav1.MicroTime:
			if !at.IsZero() {
				at.Time = move(at.Time)
			}
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				shift(v.Field(i), move)
			}
		}
	}
}
