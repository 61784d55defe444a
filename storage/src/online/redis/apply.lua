-- Appends changes to the cells of one shard, all or none.
-- KEYS: cells, nodes
-- ARGV: generation, epoch, lane (L or F), from, to, tail limit in bytes, then pairs of key and bytes
-- Reply: {OK, state, key, root, key, root, ...} with the cells whose tails are too long;
--        {DONE, state} if the batch is in already; {LOST}; {FENCED, epoch}; {GAP, state, found}.
-- Numbers of eight bytes are compared by halves: strings are compared as the locale has it.
local unpack_u32 = struct.unpack
local function less(a, b)
  local a1, a2 = unpack_u32('>I4I4', a)
  local b1, b2 = unpack_u32('>I4I4', b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

local witness = redis.call('HGET', KEYS[1], '')
if not witness or #witness ~= 50 or string.sub(witness, 1, 17) ~= '\2' .. ARGV[1] then
  return {'LOST'}
end
local epoch = string.sub(witness, 18, 25)
if less(ARGV[2], epoch) then return {'FENCED', epoch} end
local state = string.sub(witness, 26, 26)
local live = ARGV[3] == 'L'
local found = live and string.sub(witness, 27, 34) or string.sub(witness, 35, 42)
-- An older epoch is a state from before this writer: it was rolled back.
if epoch ~= ARGV[2] then return {'GAP', state, found} end
if not live and state ~= '\0' then return {'GAP', state, found} end
if not less(found, ARGV[5]) then return {'DONE', state} end
if found ~= ARGV[4] then return {'GAP', state, found} end

-- Everything is computed before the first write, so that a refusal of it leaves nothing behind.
local limit = tonumber(ARGV[6])
local long = {'OK', state}
local fields = {}
local step = 1000
for first = 7, #ARGV, 2 * step do
  local last = math.min(first + 2 * step - 2, #ARGV - 1)
  local keys = {}
  for i = first, last, 2 do keys[#keys + 1] = ARGV[i] end
  local roots = redis.call('HMGET', KEYS[1], unpack(keys))
  local values = {}
  for i = 1, #keys do
    local bytes = ARGV[first + 2 * i - 1]
    local root = roots[i]
    if root then root = root .. bytes else root = '\2\0\0\0\0' .. bytes end
    values[2 * i - 1] = keys[i]
    values[2 * i] = root
    if #root - 5 - unpack_u32('>I4', root, 2) > limit then
      long[#long + 1] = keys[i]
      long[#long + 1] = root
    end
  end
  fields[#fields + 1] = values
end

if live then
  witness = string.sub(witness, 1, 26) .. ARGV[5] .. string.sub(witness, 35)
else
  witness = string.sub(witness, 1, 34) .. ARGV[5] .. string.sub(witness, 43)
end
redis.call('HSET', KEYS[1], '', witness)
for i = 1, #fields do redis.call('HSET', KEYS[1], unpack(fields[i])) end
return long
