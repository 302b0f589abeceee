-- A user in Neovim: opens a file, types, completes with CTRL-X CTRL-O, takes the first entry.
-- Environment: SETUP, a file that sets up the server; FILE; TYPED; ANSWER, the file to write.
local answer = { incremental = false }

local function finish()
  local file = assert(io.open(vim.env.ANSWER, 'w'))
  file:write(vim.fn.json_encode(answer))
  file:close()
  vim.cmd('qa!')
end

local function keys(text)
  vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(text, true, false, true), 'n', false)
end

-- Neovim shows completions in its main loop only: look again and again instead of waiting.
local function once(condition, continue)
  vim.fn.timer_start(20, function(timer)
    if condition() then
      vim.fn.timer_stop(timer)
      continue()
    end
  end, { ['repeat'] = -1 })
end

local is_ready = false
vim.lsp.handlers['window/logMessage'] = function(_, told)
  is_ready = is_ready or told.message:find('ready') ~= nil
end
vim.o.completeopt = 'menuone,noselect'
vim.cmd('filetype on')
dofile(vim.env.SETUP)
vim.cmd('edit ' .. vim.fn.fnameescape(vim.env.FILE))

once(function() return is_ready end, function()
  local capabilities = vim.lsp.buf_get_clients(0)[1].server_capabilities
  answer.incremental = vim.tbl_get(capabilities, 'textDocumentSync', 'change') == 2
  keys('Go' .. vim.env.TYPED .. '<C-x><C-o>')
  once(function() return vim.fn.pumvisible() == 1 end, function()
    answer.menu = vim.tbl_map(function(item) return item.word end,
      vim.fn.complete_info({ 'items' }).items)
    keys('<C-n><C-y><Esc>')
    once(function() return vim.fn.mode() == 'n' end, function()
      answer.line = vim.api.nvim_get_current_line()
      finish()
    end)
  end)
end)
