package postgres

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"
)

//go:embed queries.sql
var queries string

// statements has a field for each statement of queries.sql.
type statements struct {
	SchemaTable, SchemaVersion, Ready                 string
	Clusters, CreateCluster, OpenCluster, DropCluster string
	Commit, GiveUp                                    string
	Head, Renew, Floor, Get, GetAt, List, ListAt      string
	Changes, Horizon, Compact, Tidy, Roll             string
	Poll, Notify                                      string
}

// loadStatements fills the struct and refuses names that only one side knows.
func loadStatements(text string) (*statements, error) {
	out := &statements{}
	fields := reflect.ValueOf(out).Elem()
	for i, part := range strings.Split("\n"+text, "\n-- name:") {
		if i == 0 {
			continue // the comment at the top
		}
		name, body, _ := strings.Cut(part, "\n")
		name = strings.TrimSpace(name)
		field := fields.FieldByName(name)
		if !field.IsValid() {
			return nil, fmt.Errorf("statement %q is not used", name)
		}
		if field.String() != "" {
			return nil, fmt.Errorf("statement %q is there twice", name)
		}
		field.SetString(withoutComments(body))
	}
	for i := range fields.NumField() {
		if fields.Field(i).String() == "" {
			return nil, fmt.Errorf("statement %q is missing", fields.Type().Field(i).Name)
		}
	}
	return out, nil
}

// withoutComments drops whole-line comments: what stands between two statements belongs to neither.
func withoutComments(body string) string {
	var lines []string
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, ""))
}
