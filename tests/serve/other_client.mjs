// OpenAI's client for Node asks a proxy whose address is the first argument; what is wrong ends it with an error.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { OpenAI } = createRequire(`${process.cwd()}/`)("openai");
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 12 plus 30?" }];
const model = "auto";

const { data: whole, response } = await client.chat.completions.create({ model, messages }).withResponse();
assert.match(whole.choices[0].message.content, /The answer is \d+\.$/);
assert.equal(response.headers.get("x-jaxroute-model"), whole.model);

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  text += chunk.choices[0].delta.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);

const helper = client.chat.completions.stream({ model, messages });
assert.equal(await helper.finalContent(), text);

const tools = [{ type: "function", function: { name: "add", parameters: { type: "object", properties: {} } } }];
const called = await client.chat.completions.create({ model, messages, tools });
assert.equal(called.choices[0].message.tool_calls[0].function.name, "add");

const schema = { type: "object", properties: { answer: { type: "string" } }, required: ["answer"] };
const response_format = { type: "json_schema", json_schema: { name: "number", schema } };
const parsed = await client.chat.completions.parse({ model, messages, response_format });
assert.match(parsed.choices[0].message.parsed.answer, /^\d+$/);

const image_url = { url: "data:image/png;base64,AAAA" };
const parts = [{ type: "text", text: "What is it?" }, { type: "image_url", image_url }];
assert.ok((await client.chat.completions.create({ model, messages: [{ role: "user", content: parts }] })).choices[0]);

const embedded = await client.embeddings.create({ model: "sim-nano", input: ["one", "two"] });
assert.equal(embedded.data[1].embedding.length, 16);

const answered = await client.responses.create({ model, input: "What is 12 plus 30?" });
assert.match(answered.output_text, /The answer is \d+\.$/);

await assert.rejects(client.chat.completions.create({ model: "nothing", messages }), (error) => {
  return error instanceof OpenAI.NotFoundError && error.code === "model_not_found";
});
await assert.rejects(client.chat.completions.create({ model, messages, max_tokens: -1 }), OpenAI.BadRequestError);
console.log("all is well");
