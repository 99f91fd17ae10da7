package sqlite

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"
)

//go:embed queries.sql
var queries string

// statement is one named SQL statement. index is its place among a connection's prepared statements.
type statement struct {
	name  string
	sql   string
	index int
}

// statements are the statements of queries.sql.
type statements struct {
	Begin, BeginWrite, Commit, Rollback *statement

	Clusters, FindCluster, CreateCluster                   *statement
	MarkDropped, Dropped, DropObjects, ForgetCluster       *statement
	Lost, Recover, Position, Advance, Reserve              *statement
	FindObject, GetObject                                  *statement
	InsertObject, UpdateObject, UpsertObject               *statement
	DeleteObject, InsertChange, InsertChangeOver           *statement
	ListAll, ListResource, ListNamespace                   *statement
	ChangedSince, Before, ListChanges, ChangeFrom          *statement
	RaiseFloor, HasChanges, DropChanges, FreePages, Vacuum *statement
}

// loadStatements fails when the text and the struct do not name the same statements.
func loadStatements(text string) (*statements, int, error) {
	byName := map[string]string{}
	parts := strings.Split("\n"+text, "\n-- name: ")
	for _, part := range parts[1:] {
		name, body, _ := strings.Cut(part, "\n")
		name = strings.TrimSpace(name)
		if _, twice := byName[name]; twice {
			return nil, 0, fmt.Errorf("statement %q is there twice", name)
		}
		byName[name] = strings.TrimSpace(body)
	}
	all := &statements{}
	v := reflect.ValueOf(all).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		sql, ok := byName[name]
		if !ok || sql == "" {
			return nil, 0, fmt.Errorf("statement %q is missing", name)
		}
		delete(byName, name)
		v.Field(i).Set(reflect.ValueOf(&statement{name: name, sql: sql, index: i}))
	}
	for name := range byName {
		return nil, 0, fmt.Errorf("statement %q is not used", name)
	}
	return all, v.NumField(), nil
}
