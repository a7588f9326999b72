package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// requestTimeout bounds every call but watches.
const requestTimeout = 30 * time.Second

// object is any Kubernetes object as JSON.
type object map[string]any

// client speaks HTTP and JSON with an apiserver.
type client struct {
	base string
	http *http.Client
}

func newClient(port int) *client {
	return &client{
		base: fmt.Sprintf("https://127.0.0.1:%d", port),
		http: &http.Client{Transport: &http.Transport{
			// The certificate is the one that the apiserver has just signed for itself.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 32,
			ForceAttemptHTTP2: true,
		}},
	}
}

// raw performs one request.
func (c *client) raw(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, content, err
}

// try performs one request and decodes what comes back.
func (c *client) try(method, path, contentType string, body any) (int, object, error) {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	code, content, err := c.raw(context.Background(), method, path, contentType, encoded)
	if err != nil {
		return 0, nil, err
	}
	var decoded object
	if err := json.Unmarshal(content, &decoded); err != nil {
		return code, nil, fmt.Errorf("%d, not JSON: %.300s", code, content)
	}
	return code, decoded, nil
}

// must performs a request that has to be answered with the given code.
func (c *client) must(t *testing.T, code int, method, path string, body any) object {
	t.Helper()
	return c.mustAs(t, code, method, path, "application/json", body)
}

func (c *client) mustAs(t *testing.T, code int, method, path, contentType string, body any) object {
	t.Helper()
	got, decoded, err := c.try(method, path, contentType, body)
	if err != nil || got != code {
		t.Fatalf("%s %s: %d, want %d, %v: %v", method, path, got, code, err, decoded)
	}
	return decoded
}

// at walks into an object: o.at("metadata", "name").
func (o object) at(path ...string) any {
	var value any = map[string]any(o)
	for _, step := range path {
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = inner[step]
	}
	return value
}

func (o object) text(path ...string) string {
	text, _ := o.at(path...).(string)
	return text
}

func (o object) name() string { return o.text("metadata", "name") }

func (o object) version() int64 {
	version, _ := strconv.ParseInt(o.text("metadata", "resourceVersion"), 10, 64)
	return version
}

func (o object) items() []object {
	list, _ := o.at("items").([]any)
	items := make([]object, 0, len(list))
	for _, item := range list {
		if one, ok := item.(map[string]any); ok {
			items = append(items, one)
		}
	}
	return items
}

// watchEvent is one line of a watch.
type watchEvent struct {
	Type   string `json:"type"`
	Object object `json:"object"`
}

// watch reads events until the stream ends, the context does, or see says stop.
// A watch that the server ends is no error.
func (c *client) watch(ctx context.Context, path string, options url.Values, see func(watchEvent) bool) error {
	options.Set("watch", "true")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+options.Encode(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the watch is answered with %s", response.Status)
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		var event watchEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		if !see(event) {
			return nil
		}
	}
}

// configMap is the cheapest object there is.
func configMap(name string, data map[string]string) object {
	return object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": data}
}

// eventually repeats a check until it holds or the patience is over.
func eventually(t *testing.T, patience time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
