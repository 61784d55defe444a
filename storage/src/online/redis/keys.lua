-- Some of the keys of a shard.
-- KEYS: cells, nodes
-- ARGV: cursor, how many (0: only the number of fields)
-- Reply: {witness, number of fields, cursor, {key, ...}}
local reply = {redis.call('HGET', KEYS[1], ''), redis.call('HLEN', KEYS[1]), '0', {}}
if ARGV[2] == '0' then return reply end
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local keys = reply[4]
for i = 1, #page[2], 2 do
  if page[2][i] ~= '' then keys[#keys + 1] = page[2][i] end
end
reply[3] = page[1]
return reply
